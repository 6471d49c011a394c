"""How well each way of choosing a send time decides, in simulated worlds whose truth is known and on real activity."""

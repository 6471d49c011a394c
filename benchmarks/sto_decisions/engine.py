"""The engine's own policies, through its own front door: train where a bundle is needed, score, read the run."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from sto_engine.config import Config, load_config
from sto_engine.evaluate.assignments import Sent, read_sent
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.train_job import train

PREFIX = "ours:"
# everybody in the model arm: a benchmark needs no control arm, since it knows what the fixed hour is worth
COMMON = ("experiment.control_share=0", "store.buckets=4")


@dataclass(frozen=True)
class Setting:
    """A policy as its settings (`--set` of the command line), and whether it has to be trained."""

    overrides: tuple[str, ...]
    needs_bundle: bool = False

    def config(self, *more: str) -> Config:
        return load_config(None, [*COMMON, *self.overrides, *more])


SETTINGS = {
    "histogram": Setting(("model.policy=histogram",)),
    "attention": Setting(("model.policy=attention",)),
    "boosted": Setting(("model.policy=boosted",), needs_bundle=True),
    "bandit": Setting(("model.policy=bandit",)),
    "bandit_cohort": Setting(("model.policy=bandit", "bandit.prior=cohort")),
    "bandit_flat": Setting(("model.policy=bandit", "bandit.prior=flat")),
    "hour_of_week": Setting(("model.policy=hour_of_week", "slots.grid=168")),
    "seed_histogram": Setting(("model.preset=seed_histogram",)),
    "seed_boosted": Setting(("model.preset=seed_boosted",), needs_bundle=True),
    "seed_thompson": Setting(("model.preset=seed_thompson",)),
}


@dataclass(frozen=True)
class Job:
    """One sender in a folder of its own: the store, the day to send on and to learn until, threads and seed."""

    store: Path
    folder: Path
    day: date
    threads: int
    seed: int


def make_store(store: Path, events: list[Path], recipients: Path | None) -> None:
    """Ingest files into a new store with the settings that all policies share."""
    ingest([str(path) for path in events], store, recipients, load_config(None, COMMON), Silent())


def decide(name: str, job: Job, more: tuple[str, ...] = (), audience: Path | None = None) -> Sent:
    """The assignments of the policy `name` of SETTINGS, `more` settings laid over it; raises what the engine raises."""
    return read_sent(run(name, job, more, audience))


def run(
    name: str, job: Job, more: tuple[str, ...] = (), audience: Path | None = None, dump_scores: bool = False
) -> Path:
    """Train where needed, score, and return the run folder."""
    return run_setting(name, SETTINGS[name], job, more, audience, dump_scores)


def run_setting(
    name: str,
    setting: Setting,
    job: Job,
    more: tuple[str, ...] = (),
    audience: Path | None = None,
    dump_scores: bool = False,
) -> Path:
    """`run` of a policy that stands in no list; `name` is that of its folders.

    A model that training finds worse than a histogram is used all the same: that is what is to be measured.
    """
    config, bundle = setting.config(*more), None
    if setting.needs_bundle:
        bundle = job.folder / f"bundle-{name}"
        train(job.store, bundle, job.day, config, job.threads, job.seed, None, Silent(), force=True)
    request = ScoreRequest(
        *(job.store, job.folder / f"runs-{name}", bundle, job.day, audience),
        threads=job.threads,
        seed=job.seed,
        dump_scores=dump_scores,
    )
    done = run_score(request, config, Silent())
    assert done.run_dir is not None
    return done.run_dir

"""`sto-engine evaluate`: what assignments were worth, where something outside the engine can say so."""

from pathlib import Path

import click

from sto_engine.common import Setup, common
from sto_engine.errors import CannotCreate
from sto_engine.options import PATH


@click.group()
def evaluate() -> None:
    """Judge assignments.

    \b
    Example:  sto-engine evaluate world --world world --run runs/run=0123456789abcdef
    """


@evaluate.command()
@click.option("--world", type=PATH, required=True, metavar="DIR", help="Folder of simulate, with its truth.parquet.")
@click.option("--run", type=PATH, required=True, metavar="RUN", help="Run folder, or Parquet file(s) of assignments.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the figures as JSON.")
@click.option("--arm", default="model", metavar="NAME", help="model (default), control, random, explore or all.")
@common
def world(setup: Setup, world: Path, run: Path, json_path: Path | None, arm: str) -> None:
    """Judge the assignments of RUN by the truth of a simulated world.

    RUN is the folder of a run, or any Parquet with user_id and send_at, or user_id, slot and tz_offset. Every mail
    counts at its recipient's true local hour. A simulated world shows what the engine does; it is no evidence of lift.

    \b
    Example:  sto-engine evaluate world --world world --run runs/run=0123456789abcdef
    """
    from sto_engine.evaluate.world import evaluate_world
    from sto_engine.files import canonical_json, write_atomic

    if json_path is not None and not json_path.parent.is_dir():
        raise CannotCreate(f"--json {json_path} cannot be created: {json_path.parent} is not a folder")
    result = evaluate_world(world, run, arm)
    if json_path is not None:
        write_atomic(json_path, canonical_json(result))
    setup.show(result)

"""`sto-engine erase`, `export-user` and `pseudonyms`: what a person may ask for, and who is behind a pseudonym."""

from pathlib import Path

import click

from sto_engine.common import Setup, common
from sto_engine.errors import CannotCreate
from sto_engine.options import PATH


@click.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--user-id", "user_ids", multiple=True, metavar="ID", help="Person to erase; repeatable.")
@click.option(
    "--from", "file", type=PATH, metavar="FILE", help="People to erase: a table with user_id, or text, one id a line."
)
@click.option("--block", is_flag=True, help="Also drop them in later ingests; keeps keyed hashes of their ids.")
@click.option("--dry-run", is_flag=True, help="Say what would go, change nothing.")
@common
def erase(setup: Setup, store: Path, user_ids: tuple[str, ...], file: Path | None, block: bool, dry_run: bool) -> None:
    """Remove people from a store: their events, their recipients' rows, what quarantine kept of them.

    Only files that hold such rows are written anew, all or nothing. A line without ids is added to erasures.jsonl in
    the store. Run folders of score, source files and backups are out of reach. A later export that names a person
    stores him again unless --block is given: then keyed hashes of the ids stay in the store, which are pseudonymous
    personal data, and ingest drops and counts such rows. Ids that the store does not hold are no error.

    \b
    Example:  sto-engine erase --store store --user-id 42 --user-id 77
    """
    from sto_engine.ingest.erase import erase as run

    report = run(store, user_ids, file, setup.config, setup.progress, setup.threads, block, dry_run)
    setup.show(report.as_dict())


@click.command("export-user")
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--user-id", required=True, metavar="ID", help="The person, as the events name him.")
@click.option("--out", type=PATH, metavar="FILE", help="Where the JSON document goes; default: stdout.")
@common
def export_user(setup: Setup, store: Path, user_id: str, out: Path | None) -> None:
    """Write all that a store holds of one person as a JSON document, with times in UTC; nothing of anyone else.

    A person whom the store does not hold gets "found": false and empty lists. Run folders of score are not looked at.

    \b
    Example:  sto-engine export-user --store store --user-id 42 --out user-42.json
    """
    import json

    from sto_engine.files import write_atomic
    from sto_engine.ingest.export import export_user as run

    if out is not None and not out.parent.is_dir():
        raise CannotCreate(f"--out {out} cannot be created: {out.parent} is not a folder; make it first")
    found = run(store, user_id, setup.config)
    document = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if out is None:
        click.echo(document, nl=False)
        return
    write_atomic(out, document.encode())
    counts = {name: len(found[name]) for name in ("events", "recipients", "quarantine")}
    setup.show({"out": str(out), "found": found["found"], **counts})


@click.command()
@click.argument("ids", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FILE", help="Table to write, .parquet or .csv.")
@common
def pseudonyms(setup: Setup, ids: Path, out: Path) -> None:
    """Write the pseudonym beside each id of IDS (a table with user_id), to join assignments back to people by.

    The key is the one of the store: ingest.pseudonym_key_file. Whoever holds the table knows who is who: guard it.

    \b
    Example:  sto-engine pseudonyms recipients.parquet --out who.parquet --config nightly.toml
    """
    from sto_engine.ingest.join_back import write_pseudonyms

    if not out.parent.is_dir():
        raise CannotCreate(f"--out {out} cannot be created: {out.parent} is not a folder; make it first")
    setup.show(write_pseudonyms(ids, out, setup.config))

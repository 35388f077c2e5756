"""The directory of a run: made before its first update, or found where it goes on."""

from __future__ import annotations

from dataclasses import asdict

from fttool.events import ConfigSetBack, Noted, RowRemarks, RowsNoted, Started, TemplateDifference
from fttool.rundir.checkpoints import Checkpoint
from fttool.rundir.record import Record, lock
from fttool.runs.resuming import branched_checkpoint, resumed_checkpoint
from fttool.runs.stages.loop import Prepared
from fttool.runs.start import Start


def open_record(prepared: Prepared, record: Record, resume: bool, start: Start | None) -> Checkpoint | None:
    """Make the run directory, or find the checkpoint to resume from; nothing was written before this."""
    locked = lock(prepared.loaded, [*prepared.rows.sources, *prepared.update.files()], prepared.source.origin)
    if resume:
        checkpoint = resumed_checkpoint(prepared, record, locked)
    elif start:
        checkpoint = branched_checkpoint(prepared, record, locked, start)
    else:
        record.create(prepared.loaded, locked)
        prepared.watch.event(Started(total_steps=prepared.length.total_steps))
        checkpoint = None
    for note in prepared.notes:
        prepared.watch.event(Noted(text=note), known=True)
    if prepared.undone:
        by = prepared.parts.trainer_class.__name__
        prepared.watch.event(ConfigSetBack(by=by, changes=list(map(str, prepared.undone))))
    if remarks := prepared.rows.learned.remarks:
        prepared.watch.event(RowRemarks(rows=remarks))
    if prepared.agreement.last or prepared.agreement.earlier or prepared.agreement.dated:
        prepared.watch.event(TemplateDifference(**prepared.agreement.described()))
    for notice in prepared.rows.notices:
        prepared.watch.event(RowsNoted(text=notice), known=True)
    record.dropped(map(asdict, prepared.rows.gone))
    record.flagged(map(asdict, prepared.rows.noticed))
    return checkpoint

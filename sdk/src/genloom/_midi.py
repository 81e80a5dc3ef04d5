"""Scores to and from Standard MIDI Files, by mido."""

import io
from collections.abc import Sequence

import mido  # pyright: ignore[reportMissingTypeStubs]
from mido.midifiles.meta import KeySignatureError  # pyright: ignore[reportMissingTypeStubs]

from genloom.samples import Note

TICKS_PER_S = 960
"""480 ticks a beat at 120 beats a minute."""


def write_midi(notes: Sequence[Note]) -> bytes:
    """A file with one track a program; the percussion channel stays free."""
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_S // 2)
    channels = [channel for channel in range(16) if channel != 9]
    for index, program in enumerate(sorted({note.program for note in notes})):
        channel = channels[index % len(channels)]
        events: list[tuple[int, int, int, int]] = []
        for note in notes:
            if note.program == program:
                start = round(note.start_s * TICKS_PER_S)
                end = max(start + 1, round((note.start_s + note.duration_s) * TICKS_PER_S))
                events += [(start, 1, note.pitch, note.velocity), (end, 0, note.pitch, 0)]
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        now = 0
        for time, on, pitch, velocity in sorted(events):
            kind = "note_on" if on else "note_off"
            track.append(
                mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=time - now)
            )
            now = time
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def read_midi(data: bytes) -> list[Note]:
    """The notes of all tracks by start; raises ValueError where the bytes are no MIDI file."""
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except (OSError, EOFError, ValueError, KeyError, IndexError, KeySignatureError) as error:
        raise ValueError(f"not a readable MIDI file: {error}") from error
    programs: dict[int, int] = {}
    sounding: dict[tuple[int, int], tuple[float, int]] = {}
    notes: list[Note] = []
    now = 0.0
    if file.type == 2:
        raise ValueError("not a readable MIDI file: it holds several scores (type 2)")
    for message in file:
        now += message.time
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if key in sounding:
                start, velocity = sounding.pop(key)
                program = programs.get(message.channel, 0)
                notes.append(Note(message.note, start, now - start, velocity, program))
            if message.type == "note_on" and message.velocity > 0:
                sounding[key] = (now, message.velocity)
    return sorted(notes, key=lambda note: (note.start_s, note.pitch))

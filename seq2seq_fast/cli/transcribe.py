"""seq2seq-fast transcribe: sound files in, text with times out."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..speech.subtitles import FORMATS, Layout, Writer, writer
from . import streams
from .outputs import STANDARD, Target, files_of
from .parser import count, given, number, numbers, utf8
from .progress import progress

if TYPE_CHECKING:
    from ..speech.transcript import Segment

EXAMPLES = """examples:
  seq2seq-fast transcribe talk.wav
  seq2seq-fast transcribe talk.mp3 --output talk.srt --max-line-width 42 --max-line-count 2
  seq2seq-fast transcribe *.mp3 --output-dir texts --format all
  seq2seq-fast transcribe rede.ogg --language German --task translate
  arecord -f S16_LE -r 16000 -t wav | seq2seq-fast transcribe -"""

OPTIONS = (  # of Transcriber.stream()
    "task", "beam_size", "best_of", "patience", "length_penalty", "temperature",
    "compression_ratio_threshold", "log_prob_threshold", "no_speech_threshold",
    "condition_on_previous_text", "initial_prompt", "clip_timestamps", "vad_filter", "seed",
)  # fmt: skip
SUBTITLES = ("srt", "vtt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..nn.weights import WEIGHTS

    add = parser.add_argument_group("sound").add_argument
    add("audio", nargs="+", help="WAV, FLAC, OGG, MP3 ...; - is standard input")
    add(
        "--clip-timestamps", type=numbers, metavar="START,END,...",
        help="seconds between which to transcribe (default: all)",
    )  # fmt: skip
    add(
        "--vad-filter", action="store_const", const=True,
        help="transcribe only where a detector finds speech",
    )  # fmt: skip

    add = parser.add_argument_group("output").add_argument
    add(
        "--format", action="append", choices=(*FORMATS, "all"), metavar="FORMAT",
        help=f"{', '.join(FORMATS)} or all; can be given several times, with --output-dir"
        " (default: what --output ends in, or txt)",
    )  # fmt: skip
    add("--output", metavar="FILE", help="(default: standard output)")
    add(
        "--output-dir", metavar="FOLDER",
        help="a file of the sound's name for each sound and format",
    )  # fmt: skip
    add("--word-timestamps", action="store_true", help="when each word was said, in JSON")

    add = parser.add_argument_group("subtitles (srt, vtt)").add_argument
    add("--max-line-width", type=count, metavar="N", help="characters of a line")
    add("--max-line-count", type=count, metavar="N", help="lines of a cue")
    add(
        "--max-words-per-line", type=count, metavar="N",
        help="a line is a cue, unless --max-line-count is given",
    )  # fmt: skip
    add("--highlight-words", action="store_true", help="underline each word as it is said")

    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="FOLDER", help="a model of your own")
    add("--weights", choices=WEIGHTS, help="(default: as they are published)")
    add("--language", metavar="NAME", help="German or de, say (default: what the model detects)")
    add(
        "--task", choices=("transcribe", "translate"),
        help="translate: into English (default: transcribe)",
    )  # fmt: skip
    add(
        "--initial-prompt", type=utf8, metavar="TEXT",
        help="text to give the model first: names, say",
    )  # fmt: skip
    add(
        "--no-condition-on-previous-text", dest="condition_on_previous_text",
        action="store_const", const=False, help="do not give the model the text so far",
    )  # fmt: skip

    add = parser.add_argument_group("search").add_argument
    add("--beam-size", type=count, metavar="N", help="(default: 5)")
    add("--patience", type=number, metavar="X", help="of the beam search (default: 1)")
    add("--length-penalty", type=number, metavar="X", help="of the beam search (default: 1)")
    add(
        "--temperature", type=numbers, metavar="X,...",
        help="tried in turn while a result is doubtful; 0 is the beam search, others are samples"
        " (default: 0,0.2,0.4,0.6,0.8,1)",
    )  # fmt: skip
    add("--best-of", type=count, metavar="N", help="samples, the best of which counts (default: 5)")
    add("--seed", type=int, metavar="N", help="of the samples (default: 0)")
    add(
        "--compression-ratio-threshold", type=number, metavar="X",
        help="a text that zlib makes more times smaller is doubtful (default: 2.4)",
    )  # fmt: skip
    add(
        "--log-prob-threshold", type=number, metavar="X",
        help="a text of a lower mean log-probability is doubtful (default: -1)",
    )  # fmt: skip
    add(
        "--no-speech-threshold", type=number, metavar="X",
        help="a doubtful text is silence if no speech is likelier than this (default: 0.6)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    layout = Layout(
        options.max_line_width,
        options.max_line_count,
        options.max_words_per_line,
        options.highlight_words,
    )
    formats = _formats(options, layout)
    outputs = _outputs(options, formats)
    word_timestamps = options.word_timestamps or layout != Layout()

    from ..demo import find_speech_model
    from ..speech.audio import Recording
    from ..speech.transcriber import Transcriber

    transcriber = Transcriber(options.model or find_speech_model(), weights=options.weights)
    failed = False

    def fail(error: ValueError) -> None:
        """A sound that cannot be read is no reason to give up the others."""
        nonlocal failed
        if len(options.audio) == 1:
            raise error
        streams.say(f"error: {streams.described(error)}")
        failed = True

    for audio, targets in zip(options.audio, outputs, strict=True):
        try:
            recording = Recording(streams.standard_input() if audio == STANDARD else Path(audio))
        except ValueError as error:
            fail(error)
            continue
        done = _Done()
        spoken = transcriber.stream(
            recording, options.language, word_timestamps=word_timestamps, progress=done,
            **given(options, *OPTIONS),
        )  # fmt: skip
        writers = [writer(format, spoken, layout) for format in formats]
        try:
            with done.shown(recording.duration, targets):
                _write(spoken, list(zip(writers, targets, strict=True)))
        except ValueError as error:
            fail(error)
    if failed:
        raise SystemExit(2)


def _write(spoken: Iterable[Segment], files: list[tuple[Writer, Target]]) -> None:
    with contextlib.ExitStack() as stack:
        outputs = [(one, stack.enter_context(target.open(one.end))) for one, target in files]
        for segment in spoken:
            for one, write in outputs:
                write(one.segment(segment))


class _Done:
    """Called with the seconds of sound that are done; shows them as a bar."""

    def __init__(self) -> None:
        self.seconds = 0
        self.step: Callable[[int], object] = int

    def __call__(self, seconds: float) -> None:
        self.step(int(seconds) - self.seconds)
        self.seconds = int(seconds)

    @contextlib.contextmanager
    def shown(self, duration: float | None, targets: list[Target]) -> Iterator[None]:
        total = None if duration is None else int(duration)
        # Text that appears on a terminal shows by itself how far it is.
        wanted = not any(target.is_terminal for target in targets)
        with progress(total, " s", wanted=wanted) as self.step:
            yield


def _formats(options: argparse.Namespace, layout: Layout) -> list[str]:
    """The formats that were given, if they go with the other options."""
    formats = list(dict.fromkeys(options.format or ()))
    if "all" in formats:
        formats = list(FORMATS)
    if options.output and options.output_dir:
        raise ValueError("give --output or --output-dir, not both")
    if not formats and options.output:
        formats = [Path(options.output).suffix.removeprefix(".").lower()]
        if formats[0] not in FORMATS:
            known = ", ".join(f".{name}" for name in FORMATS)
            raise ValueError(f"--output must end in one of {known}, or give --format")
    formats = formats or ["txt"]
    if not options.output_dir and len(formats) > 1:
        raise ValueError("several formats are written with --output-dir")
    if not options.output_dir and len(options.audio) > 1 and (options.output or formats != ["txt"]):
        raise ValueError("several sounds are written with --output-dir, or as text one by one")
    if options.word_timestamps and "json" not in formats:
        raise ValueError("--word-timestamps is for --format json; subtitles have --highlight-words")
    if layout != Layout() and not {*formats} & {*SUBTITLES}:
        raise ValueError("lines, cues and highlighted words are for --format srt and vtt")
    return formats


def _outputs(options: argparse.Namespace, formats: list[str]) -> list[list[Target]]:
    """Where each sound's formats are written."""
    sounds = files_of(options.audio)
    if not options.output_dir:
        return [[Target(options.output or STANDARD, sounds)] for _ in options.audio]
    outputs: list[list[Target]] = []
    sources: dict[Path, str] = {}  # by the first of their outputs
    for audio in options.audio:
        name = "stdin" if audio == STANDARD else Path(audio).stem
        files = [Path(options.output_dir, f"{name}.{format}") for format in formats]
        if files[0] in sources:
            raise ValueError(f"{sources[files[0]]} and {audio} would both be written to {files[0]}")
        sources[files[0]] = audio
        outputs.append([Target(str(file), sounds) for file in files])
    return outputs

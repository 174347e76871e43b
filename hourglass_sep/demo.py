"""Demo on synthetic songs: ``hourglass-sep demo [key=value ...]`` trains a network, scores it and separates a song."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from hourglass_sep.training.entry import hydra_main

SONG_SECONDS = 12.0
SONG_SEED = 2018


def run(cfg: DictConfig) -> dict[str, Path]:
    """Train with a test at the end, then separate a song that is not in the training set and draw its masks.

    Args:
        cfg: config ``demo``; its ``test`` is set to True.

    Returns:
        Name to path of the outputs: ``song``, ``stems`` (a folder), ``picture``, ``scores``, ``checkpoint`` and, if a
        W&B run was logged, ``W&B run``.
    """
    from hourglass_sep import audio
    from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
    from hourglass_sep.data.synthetic.synthesis import synthesize_song
    from hourglass_sep.dsp.stems import SOURCES, Stems
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.plotting.separation import picture
    from hourglass_sep.songs.separate_song import separate_file
    from hourglass_sep.training.build_separator import build_post
    from hourglass_sep.training.run import best_checkpoint
    from hourglass_sep.training.run import run as train

    cfg.test = True
    train(cfg)
    folder = Path(cfg.paths.run_dir)
    separator = Separator.from_checkpoint(best_checkpoint(cfg), **build_post(cfg))

    sources = synthesize_song(SONG_SEED, SONG_SECONDS, SAMPLE_RATE_HZ)
    song = folder / "song.wav"
    audio.write(song, sources.sum(0, keepdim=True), SAMPLE_RATE_HZ)
    stems = separate_file(separator, song, folder, overwrite=True)
    drawing = folder / "song.png"
    drawn = sources[:, : 6 * SAMPLE_RATE_HZ]
    known = Stems(dict(zip(SOURCES, drawn, strict=True)), SAMPLE_RATE_HZ)
    references = known.stacked(separator.sources) if known.keys() >= {*separator.sources} else None
    picture(separator, drawn.sum(0), SAMPLE_RATE_HZ, references).savefig(drawing)

    made = {"song": song, "stems": stems[0].parent, "picture": drawing, "scores": folder / "scores.csv"}
    made["checkpoint"] = best_checkpoint(cfg)
    dashboard = folder / "wandb" / "latest-run"
    return made | ({"W&B run": dashboard} if dashboard.exists() else {})


@hydra_main("demo")
def main(cfg: DictConfig) -> None:
    """Run the ``demo`` command."""
    console = Console(soft_wrap=True)
    console.print("Training a small network on synthetic songs, then scoring it and separating a song with it.")
    made = run(cfg)
    from hourglass_sep.results.show import show_scores

    show_scores(made["scores"].parent)
    for what, path in made.items():
        console.print(f"{what + ':':<12} {path}")
    console.print("Next: the README says how to train on MIR-1K and how to read the W&B run.")


if __name__ == "__main__":
    main()

"""The command `fluxion`."""

from __future__ import annotations

import argparse
import sys

from fluxion import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fluxion", description="Fluxion, a deep learning system.")
    parser.add_argument("--version", action="version", version=f"fluxion {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    run = commands.add_parser(
        "run",
        help="run a Python script",
        description="Runs a Python script. With --as-torch, `import torch` in it gives Fluxion.",
    )
    run.add_argument("--as-torch", action="store_true", help="resolve torch to Fluxion")
    run.add_argument("script", help="path of the script")
    run.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")
    return parser


def _run(script: str, args: list[str], as_torch: bool) -> int:
    import os
    import runpy

    if not os.path.exists(script):
        print(f"fluxion run: no such file: {script}", file=sys.stderr)
        return 2
    from .compat import TorchModule, install

    if as_torch:
        install()
    sys.argv = [script, *args]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    try:
        runpy.run_path(script, run_name="__main__")
    except ImportError as error:  # `from torch import x`: Python drops our text for its own
        if (error.name or "").partition(".")[0] == "torch" and "cannot import name" in str(error):
            missing = str(error).split("'")[1]
            error.add_note(f"{error.name}.{missing} is not in Fluxion yet")  # type: ignore
        raise
    except AttributeError as error:  # a method of a tensor, module, optimizer ...
        owner = type(error.obj)
        ours = owner.__module__.partition(".")[0] == "fluxion" and owner is not TorchModule
        if as_torch and ours and error.name:
            error.add_note(f"torch's {owner.__name__}.{error.name} is not in Fluxion yet")  # type: ignore
        raise
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    options = _parser().parse_args(argv)
    return _run(options.script, options.args, options.as_torch)


if __name__ == "__main__":
    sys.exit(main())

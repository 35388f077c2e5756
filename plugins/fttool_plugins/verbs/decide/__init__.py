"""Decide whether to prompt or to fine-tune, and how.

From how many requests on a fine-tuned model costs less than a long prompt, what rules of thumb say of the rows, and
with --measure what short runs show of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

from fttool.api import ExitCode, show, visible_json
from fttool.verbs import verb_parser
from fttool_plugins.verbs.decide.arguments import add_arguments, refuse_gaps

EXAMPLES = """\
examples:
  fttool decide --prompt-tokens 1000 --tuned-prompt-tokens 50 --input-price 10 --training 100-1000
                                                      before there are rows
  fttool decide my.toml                               what rules of thumb say of the rows
  fttool decide my.toml --input-price 3 --output-price 15 --training 100-1000 --requests 5000
                                                      tokens are counted in the rows
  fttool decide my.toml --input-price 3 --gpus h100:1 --price 3
                                                      training as fttool estimate has it
  fttool decide my.toml --input-price 3 --training 200 --hosting 1.20 --requests 20000 --retrain 1
                                                      hosted by the hour, trained again each month
  fttool decide my.toml --measure --budget 10m        prompt, modes and learning curve, tried in short runs

Prices of tokens are dollars per million. docs/decide.md has what is computed and measured, and what is not.

next: fttool estimate my.toml
"""


def main(words: Sequence[str]) -> int:
    """Look at the rows, compute, measure if asked, and say what follows."""
    parser = verb_parser("decide", __doc__, EXAMPLES)
    add_arguments(parser)
    options = parser.parse_args(words)
    refuse_gaps(options)
    if options.plot is not None:
        from fttool_plugins.verbs.compare.plotting import refuse_image

        refuse_image(options.plot)

    from fttool_plugins.verbs.decide.deciding import decided

    result = decided(options)
    if options.plot is not None:
        from fttool_plugins.verbs.decide.picture import draw

        assert result.crossover is not None  # `refuse_gaps` has refused a plot without prices
        draw(result.crossover, options.plot)
        show(f"wrote {options.plot}", error=True)
    if options.json:
        from fttool_plugins.verbs.decide.screen import as_json

        print(visible_json(json.dumps(as_json(result), indent=2, ensure_ascii=False)))
    else:
        from fttool_plugins.verbs.decide.screen import screen

        show(*screen(result, min(shutil.get_terminal_size((100, 24)).columns, 110)))
    return ExitCode.OK

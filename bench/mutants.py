"""Every mutant of one Python file, as JSON on standard output. Runs in Cosmic Ray's environment, which has nothing else."""

import ast
import json
import sys
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names


def annotations(source):
    "The places of all annotations, ((line, column), (line, column)): they decide nothing when the program runs."
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if found is not None:
                yield (found.lineno, found.col_offset), (found.end_lineno, found.end_col_offset)


def mutants(source):
    "Dictionaries: operator, occurrence, line, column, code."
    skipped, tree = list(annotations(source)), get_ast(source)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue
        operator = operator()
        places = (start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(places):
            if any(low <= start < high for low, high in skipped):
                continue
            try:
                code = mutate_code(source, operator, occurrence)
            except AttributeError:  # Cosmic Ray 8.7 can't replace a dotted name in a tuple of exceptions
                continue
            if code and code != source:
                yield dict(operator=name.removeprefix("core/"), occurrence=occurrence, line=start[0], column=start[1],
                           code=code)


if __name__ == "__main__":
    json.dump(list(mutants(Path(sys.argv[1]).read_text(encoding="utf-8"))), sys.stdout)

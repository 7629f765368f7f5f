"""A sample of the mutants of one Python file, as JSON. Runs in Cosmic Ray's environment, which has nothing of ours."""

import ast
import json
import random
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


def sites(source):
    "All mutations: (line, column), operator's name, occurrence."
    skipped, tree = list(annotations(source)), get_ast(source)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue
        operator = operator()
        places = (start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, start in enumerate(places):
            if not any(low <= start < high for low, high in skipped):
                yield start, name, occurrence


def shuffled(source, seed):
    "All mutations in the order in which they are tried: every place once, then every place twice, and so on."
    places = {}
    for site in sites(source):
        places.setdefault(site[0], []).append(site)
    rng, rounds = random.Random(seed), []
    for place in sorted(places):
        here = sorted(places[place])
        rng.shuffle(here)
        rounds += [(i, rng.random(), site) for i, site in enumerate(here)]
    return [site for _, _, site in sorted(rounds)]


def mutants(source, seed, count):
    "The first `count` mutants: operator, occurrence, line, column, code."
    made = 0
    for (line, column), name, occurrence in shuffled(source, seed):
        if made == count:
            return
        try:
            code = mutate_code(source, get_operator(name)(), occurrence)
        except AttributeError:  # Cosmic Ray 8.7 can't replace a dotted name in a tuple of exceptions
            continue
        if code and code != source:
            made += 1
            yield dict(operator=name.removeprefix("core/"), occurrence=occurrence, line=line, column=column, code=code)


if __name__ == "__main__":
    path, seed, count = sys.argv[1:]
    json.dump(list(mutants(Path(path).read_text(encoding="utf-8"), int(seed), int(count))), sys.stdout)

"""The API reference: public names of the package with their docments, read from the source without importing it."""

import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Parameter:
    "A parameter, or a field of a class."

    name: str
    type: str = ""
    default: str = ""
    comment: str = ""


@dataclass
class Name:
    "A public name of a module, or a method of a public class."

    name: str  # methods: with the class, `Bundle.probability`
    kind: str  # function, class, constant, method, property
    signature: str  # Python
    text: str  # docstring without the sentences on errors, Markdown
    errors: str  # those sentences
    cell: str  # id of the notebook cell that defines it
    parameters: list[Parameter] = field(default_factory=list)
    returns: Parameter | None = None
    members: list["Name"] = field(default_factory=list)

    @property
    def line(self) -> str:
        "The docstring's first sentence, on one line."
        return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", " ".join(self.text.split("\n\n")[0].split()))[0]


@dataclass
class Module:
    "A module of the package and the notebook that it is exported from."

    name: str  # with its room, `model.bundle`
    text: str  # docstring
    notebook: Path  # from the root
    names: list[Name]

    @property
    def url(self) -> str:
        return f"api/{self.name.replace('.', '/')}.html"


def comments_of(source: str) -> tuple[dict[int, str], set[int]]:  # line to text; lines that hold nothing else
    "The comments of a module."
    found, alone = {}, set()
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        if t.type == tokenize.COMMENT:
            found[t.start[0]] = t.string.lstrip("# ").strip()
            if not t.line[: t.start[1]].strip():
                alone.add(t.start[0])
    return found, alone


class Reader:
    "Reads one module."

    def __init__(self, path: Path):
        self.source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        self.comments, self.alone = comments_of(self.source)
        marks = re.compile(r"^# %% (\S+\.ipynb) #(\S+)$")
        lines = enumerate(self.source.splitlines(), 1)
        self.cells = [(at, m[1], m[2]) for at, line in lines if (m := marks.match(line))]
        edited = re.search(r"File to edit: (\S+\.ipynb)", self.source)
        self.notebook = (path.parent / edited[1]).resolve() if edited else path

    def comment(self, line: int) -> str:
        "The comment of a line: at its end, or in the lines above it that hold nothing else."
        if line in self.comments and line not in self.alone:
            return self.comments[line]
        above = []
        while (line := line - 1) in self.alone and not self.comments[line].startswith("%%"):
            above.insert(0, self.comments[line])
        return " ".join(above)

    def cell(self, line: int) -> str:
        return next((name for at, _, name in reversed(self.cells) if at < line), "")

    def parameters(self, node) -> list[Parameter]:
        a = node.args
        plain = [*a.posonlyargs, *a.args]
        defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
        pairs = [(p.arg, p, d) for p, d in zip(plain, defaults, strict=True)]
        pairs += [(f"*{a.vararg.arg}", a.vararg, None)] if a.vararg else []
        pairs += [(p.arg, p, d) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
        pairs += [(f"**{a.kwarg.arg}", a.kwarg, None)] if a.kwarg else []
        own = node.lineno if node.lineno == node.body[0].lineno else 0  # one line: its comment is nobody's
        return [
            Parameter(
                name,
                ast.unparse(p.annotation).strip("'\"") if p.annotation else "",
                ast.unparse(d) if d is not None else "",
                self.comment(p.lineno) if p.lineno not in (own, node.lineno) else "",
            )
            for name, p, d in pairs
            if name not in ("self", "cls")
        ]

    def returned(self, node) -> Parameter | None:
        "What a function returns: type, and the comment behind the colon."
        line = node.returns.end_lineno if node.returns else node.body[0].lineno - 1
        comment = self.comments.get(line, "") if line not in self.alone else ""
        if not node.returns and line < node.lineno:
            comment = ""
        kind = ast.unparse(node.returns).strip("'\"") if node.returns else ""
        return Parameter("", kind, "", comment) if comment or kind not in ("", "None") else None

    def documented(self, node, name: str, kind: str, signature: str) -> Name:
        text = ast.get_docstring(node) or ""
        raises = re.compile(r"(?:^|(?<=[.:;!?]\s))Raises .*?(?:\.(?=\s|$)|$)", re.S)
        errors = " ".join(" ".join(m.split()) for m in raises.findall(text))
        return Name(name, kind, signature, raises.sub("", text).strip(), errors, self.cell(node.lineno))

    def function(self, node, owner: str = "") -> Name:
        marks = {ast.unparse(d) for d in node.decorator_list}
        is_property = bool(marks & {"property", "functools.cached_property", "cached_property"})
        kind = ("property" if is_property else "method") if owner else "function"
        name = f"{owner}.{node.name}" if owner else node.name
        found = self.documented(node, name, kind, signature_of(node, name, bool(owner)) if not is_property else name)
        found.parameters, found.returns = self.parameters(node), self.returned(node)
        return found

    def klass(self, node) -> Name:
        bases = ", ".join(ast.unparse(b) for b in node.bases)
        found = self.documented(node, node.name, "class", f"class {node.name}" + (f"({bases})" if bases else ""))
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and not part.target.id.startswith("_"):
                default = ast.unparse(part.value) if part.value else ""
                kind = ast.unparse(part.annotation).strip("'\"")
                found.parameters.append(Parameter(part.target.id, kind, default, self.comment(part.lineno)))
            elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                if part.name == "__init__":
                    found.parameters = self.parameters(part)
                    found.signature = signature_of(part, node.name, True)
                elif not part.name.startswith("_"):
                    found.members.append(self.function(part, node.name))
        return found

    def constant(self, node, name: str) -> Name:
        value = " ".join(ast.unparse(node.value).split()) if node.value else ""
        target = ast.unparse(node.targets[0]).strip("()") if isinstance(node, ast.Assign) else name
        shown = f"{target} = {value}" if len(value) < 300 else f"{target} = {value[:280]} …"
        found = Name(name, "constant", shown, self.comment(node.lineno), "", self.cell(node.lineno))
        if isinstance(node.value, ast.Dict):  # of texts: a row each
            pairs = list(zip(node.value.keys, node.value.values, strict=True))
            if all(isinstance(p, ast.Constant) and isinstance(p.value, str) for pair in pairs for p in pair):
                found.parameters = [Parameter(repr(k.value), comment=v.value) for k, v in pairs]
        return found

    def names(self) -> list[Name]:
        "Public names in the order of the notebook."
        public, found = [], []
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = [p for t in targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
                names = [p.id for p in parts if isinstance(p, ast.Name)]
                if names == ["__all__"]:
                    public = ast.literal_eval(node.value)
                found += [self.constant(node, n) for n in names if n in public]
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in public:
                found.append(self.function(node))
            elif isinstance(node, ast.ClassDef) and node.name in public:
                found.append(self.klass(node))
        return found


def signature_of(node, name: str, bound: bool) -> str:
    "A call as Python, one parameter a line if it is long."
    args = node.args
    if bound and args.args and args.args[0].arg in ("self", "cls"):
        args = ast.arguments(**{**{f: getattr(args, f) for f in args._fields}, "args": args.args[1:]})
    back = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    parts = split_arguments(args)
    line = f"{name}({', '.join(parts)}){back}"
    return line if len(line) < 80 else f"{name}(\n" + "".join(f"    {p},\n" for p in parts) + f"){back}"


def split_arguments(args) -> list[str]:
    "The parameters of a signature as texts."
    out, plain = [], [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    for p, d in zip(plain, defaults, strict=True):
        out.append(one_argument(p, d))
    if args.vararg:
        out.append("*" + ast.unparse(args.vararg))
    elif args.kwonlyargs:
        out.append("*")
    out += [one_argument(p, d) for p, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return out + (["**" + ast.unparse(args.kwarg)] if args.kwarg else [])


def one_argument(p, default) -> str:
    text = ast.unparse(p)
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if p.annotation else f"{text}={ast.unparse(default)}"


def read_modules(root: Path) -> list[Module]:
    "All modules that are exported from notebooks, room by room, in the order of the notebooks."
    found = []
    for path in sorted((root / "xraypneu").rglob("*.py")):
        if path.name.startswith("_"):
            continue
        reader = Reader(path)
        parts = path.relative_to(root / "xraypneu").with_suffix("").parts
        book = reader.notebook.relative_to(root.resolve())
        text = ast.get_docstring(reader.tree) or ""
        found.append(Module(".".join(parts), text, book, reader.names()))
    rooms = ("api", "metrics", "data", "model", "evaluation", "ops", "serving")
    return sorted(found, key=lambda m: (rooms.index(m.notebook.parent.name), m.notebook.name))

"""Package metadata: read from settings.ini, so that nothing is said twice."""

import sys
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
names = ("pipeline", "app", "team", "tune", "cluster", "sign", "dev", "bench")
extras = {name: cfg[f"{name}_requirements"].split() for name in names}

# what `xraypneu new` lays down and `xraypneu app` serves, and the terms that reports explain; in a clone they stay
PROJECT = ("dvc.yaml", "params.yaml", ".dvcignore", "voila.py", "nbs/pipeline/*.ipynb", "nbs/app/dashboard.ipynb")
PROJECT += ("nbs/tutorials/glossary.ipynb",)


def lay_down_parameters(folder):
    "Exchange params.yaml in a folder for the committed one: the clone's may name the films of who builds the package."
    laid = Path(folder) / "params.yaml"
    if not laid.is_file():
        return
    sys.path.insert(0, str(here))  # of the standard library alone
    from xraypneu.files import default_params

    try:
        content = default_params(here)
    except OSError as e:
        raise SystemExit(f"{e}\nWithout it, the package might get the films and parameters of a run here.") from None
    laid.unlink()  # in a source distribution it is a link to the clone's
    laid.write_bytes(content)


class WithParameters(sdist):
    "The source distribution, with the committed parameters."

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        lay_down_parameters(base_dir)


class WithProject(build_py):
    "Copies the pipeline's files into the package."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for file in (f for pattern in PROJECT for f in here.glob(pattern)):
            to = Path(self.build_lib) / "xraypneu/project" / file.relative_to(here)
            to.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(file), str(to))
        lay_down_parameters(Path(self.build_lib) / "xraypneu/project")


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords=cfg["keywords"].split(),
    # an editable install is then this folder on the path, which also works beside a clone named xraypneu; without it,
    # it is a finder, before which Python takes the clone for a package without content
    package_dir={"": "."},
    packages=find_packages(include=["xraypneu", "xraypneu.*"]),
    package_data={"xraypneu": ["shipped/*", "app/*", "app/voila/templates/xraypneu/*", "evaluation/*.txt"]},
    cmdclass={"build_py": WithProject, "sdist": WithParameters},
    python_requires=f">={cfg['min_python']},<3.14",
    install_requires=cfg["requirements"].split(),
    extras_require=extras | {"all": sorted({r for reqs in extras.values() for r in reqs})},
    entry_points={
        "console_scripts": ["xraypneu=xraypneu.cli:main"],
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    zip_safe=False,
)

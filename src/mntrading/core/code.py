"""Code as something that can be compared: what an artefact's hash says of the functions that made it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any


def code_of(part: Any) -> str:
    """Source of a function, class or module without comments, docstrings and layout."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)

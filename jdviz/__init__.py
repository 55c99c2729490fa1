"""Trains with several objectives by Jacobian descent, and shows what their gradients do.

The package itself imports nothing, so that `import jdviz` costs nothing. Its rooms are imported
by name, for instance `jdviz.training` or `jdviz.figures`; docs/ARCHITECTURE.md lists them.
"""

# The one place of the version: pyproject.toml reads it from here.
__version__ = "0.1.0"

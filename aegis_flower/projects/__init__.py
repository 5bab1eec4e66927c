"""New projects: `aegis init` renders one from a template. A template is a folder in ``templates``, with a ``template.toml``.

What every project has is in ``templates/_project``; the folder of a template adds ``app.py.j2`` and ``experiment.yaml.j2``, and
may have other files of the package. Nothing that exists is overwritten, and a project is there whole or not at all.
"""

from aegis_flower.projects.names import check_name as check_name
from aegis_flower.projects.registry import Template as Template
from aegis_flower.projects.registry import template as template
from aegis_flower.projects.registry import templates as templates
from aegis_flower.projects.render import Made as Made
from aegis_flower.projects.render import Rows as Rows
from aegis_flower.projects.render import make as make

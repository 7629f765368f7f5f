"""Configuration of the dashboard's server: `voila nbs/app/dashboard.ipynb` in this folder, or `make app`.

Settings come from the environment:

XRAYPNEU_MODEL        a bundle's folder or an MLflow address; the shipped model by default
XRAYPNEU_TOKEN        password of the page; without it, anybody who reaches the port can open the page
XRAYPNEU_HOSTS        host names in the address of the page, comma-separated; localhost is always one
XRAYPNEU_PROXIES      addresses of reverse proxies, comma-separated, whose X-Forwarded-For is trusted
XRAYPNEU_SESSIONS     concurrent sessions, 50; further visitors are asked to come back later
XRAYPNEU_PER_ADDRESS  concurrent sessions of one client address, 10
XRAYPNEU_MAX_MB       largest uploaded file, 25 MB; 128 at most, as the decoder takes no more
XRAYPNEU_CONNECT_S, XRAYPNEU_AWAY_S, XRAYPNEU_BUSY_S
                      seconds after which a session is ended: without a connection (60), without its page (300),
                      occupied by one request (120)
XRAYPNEU_WARM         0: each session starts a process of its own, as elsewhere than on Linux; 1, the default, forks one
                      that has imported and loaded what all sessions need, which is faster and takes less memory

`xraypneu.serving.guard` defines the limits and what is refused, `xraypneu.serving.warm` the start of a session.
"""

import os
import sys
from importlib.resources import files


def configure(c):
    "Apply all settings. Raises an exception if one is wrong."
    from xraypneu.model.signature import trust
    from xraypneu.serving import app, guard, page, warm

    trust()  # else the server would run, and all its pages fail
    # our template loads nothing from other hosts
    os.environ["JUPYTER_PATH"] = os.pathsep.join(
        filter(None, [str(files("xraypneu") / "app"), os.environ.get("JUPYTER_PATH")])
    )
    os.environ.update(app.absolute_paths(os.environ))  # sessions run in the notebook's folder
    token = os.environ.pop("XRAYPNEU_TOKEN", "")  # kernels need not know it
    if token != token.strip():
        raise ValueError("XRAYPNEU_TOKEN begins or ends with white space. Remove that, or unset it to ask for no token")
    if token:
        c.Voila.token = token
    guard.install(c, token)
    warm.install(c)

    c.VoilaConfiguration.prelaunch_hook = guard.before_a_session
    c.VoilaConfiguration.template = "xraypneu"
    c.VoilaConfiguration.extension_allowlist = [
        "@voila-dashboards/widgets-manager8",
        "@jupyter-widgets/jupyterlab-manager",
        "anywidget",
    ]  # whatever else is installed stays out of the page
    c.VoilaConfiguration.file_allowlist = []  # no file of this folder is served
    c.VoilaConfiguration.allow_template_override = "NO"
    c.VoilaConfiguration.allow_theme_override = "NO"
    c.VoilaConfiguration.show_tracebacks = False
    c.VoilaConfiguration.http_header_envs = []
    c.VoilaExecutor.timeout = 120
    # its lines for debugging, which the log leaves out, would quote whole messages: 70 ms of each page
    c.Voila.logging_config = {"loggers": {"Voila": {"level": "INFO"}}}
    c.Voila.port_retries = 0  # a port in use is an error, not another port
    c.Voila.open_browser = False
    # unsafe-inline and blob: are what Voilà and its widgets need; nothing comes from, or goes to, another host
    c.Voila.tornado_settings = {
        "websocket_max_message_size": 16 * 1024 * 1024,
        "static_immutable_cache": ["/voila/labextensions/"],  # names of these files contain a hash
        "headers": {
            "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
            "connect-src 'self' ws: wss:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
            "form-action 'self'; frame-ancestors 'self'",
            "X-Content-Type-Options": "nosniff",
            # with no-referrer the browser hides the login form's origin, and the server refuses its password
            "Referrer-Policy": "same-origin",
        },
        "log_function": guard.log_request,
    }
    page.install(c)


if "get_config" not in globals():  # Jupyter gives it to a configuration: this was imported for the package of its name
    sys.exit(
        "The dashboard does not start: this folder is on Python's path, so Python takes voila.py, its settings, for "
        "the package voila. Start it by the command voila, not by python -m voila. If PYTHONPATH is set, remove from "
        "it this folder, `.` and empty entries (at its ends, or ::), or start without it: env -u PYTHONPATH make app"
    )
try:
    configure(get_config())  # noqa: F821
except Exception as e:  # Jupyter would log it and serve the page without token and limits
    sys.exit(f"The dashboard does not start: its settings can't be applied. {type(e).__name__}: {e}")

"""The old application: Flask, pages and forms. It speaks WSGI, and knows nothing of the new one."""

from flask import Flask, abort, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response

import database

app = Flask(__name__)
app.secret_key = "public, for this example only"

PAGE = """<!doctype html>
<title>The shed</title>
<h1>The shed</h1>
{% if name %}
<p>Hello, {{ name }}. <a href="{{ url_for('logout') }}">Leave</a></p>
{% else %}
<form method="post" action="{{ url_for('login') }}">
<input name="name" placeholder="Your name"> <button>Enter</button>
</form>
{% endif %}
<ul>
{% for tool in tools %}
<li>{{ tool.name }}
{% if tool.borrower %} is with {{ tool.borrower }}
{% elif name %}<form method="post" action="{{ url_for('borrow', tool=tool.id) }}"><button>Borrow</button></form>
{% endif %}</li>
{% endfor %}
</ul>
"""


@app.get("/")
def home() -> str:
    return render_template_string(PAGE, tools=database.tools(), name=session.get("name"))


@app.post("/login")
def login() -> Response:
    session["name"] = request.form["name"].strip()[:40] or abort(400)
    return redirect(url_for("home"))


@app.get("/logout")
def logout() -> Response:
    session.clear()
    return redirect(url_for("home"))


@app.post("/borrow/<int:tool>")
def borrow(tool: int) -> Response:
    if not database.lend(tool, session.get("name") or abort(401)):
        abort(409)
    return redirect(url_for("home"))

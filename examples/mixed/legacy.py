"""The old application: Flask, pages and forms. It speaks WSGI, and knows nothing of the new one."""

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

import database

app = Flask(__name__)
app.secret_key = "public, for this example only"


@app.get("/")
def home() -> str:
    server = request.environ.get("SERVER_SOFTWARE", "an ASGI server")
    return render_template("shed.html", tools=database.tools(), name=session.get("name"), server=server)


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

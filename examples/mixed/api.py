"""The new application: FastAPI, for scripts and phones. It speaks ASGI."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

import database
import sessions

Name = Annotated[str, Depends(sessions.who)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """What the application has only once, on its one event loop."""
    yield {"watchers": set()}


app = FastAPI(title="The shed", lifespan=lifespan)


@app.get("/me")
def me(name: Name) -> dict[str, str]:
    return {"name": name}


@app.put("/me")
def rename(new: str, name: Name, request: Request, response: Response) -> dict[str, str]:
    sessions.write(response, {**sessions.read(request), "name": new})
    return {"name": new, "before": name}


@app.get("/tools")
def tools() -> list[dict[str, object]]:
    return database.tools()


@app.put("/tools/{tool}/loan")
def borrow(tool: int, name: Name) -> dict[str, object]:
    if not database.lend(tool, name):
        raise HTTPException(409, "somebody has it, or there is no such tool")
    return {"tool": tool, "borrower": name}


@app.delete("/tools/{tool}/loan", status_code=204)
def bring_back(tool: int, name: Name) -> None:
    if not database.take_back(tool, name):
        raise HTTPException(409, "you do not have it")


@app.get("/watch")
async def watch(request: Request) -> StreamingResponse:
    """The tools, now and after each change, as server-sent events. In the old application, each would hold a thread."""
    watchers: set[object] = request.state.watchers
    mine = object()

    async def events() -> AsyncIterator[str]:
        watchers.add(mine)
        before = None
        try:
            while True:
                now = await asyncio.to_thread(database.tools)
                if now != before:
                    yield f"data: {json.dumps({'tools': now, 'watchers': len(watchers)})}\n\n"
                    before = now
                await asyncio.sleep(0.2)
        finally:
            watchers.discard(mine)

    return StreamingResponse(events(), media_type="text/event-stream")

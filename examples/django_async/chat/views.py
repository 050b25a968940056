import json
from uuid import uuid4

from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponseForbidden, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from . import services
from .forms import ArrivalForm, BeforeForm, NameForm
from .models import TEXT_LENGTH, Room


async def entrance(request):
    """The page where visitors give their name, and then go on to a room."""
    rooms = await services.rooms()
    wanted = next((room for room in rooms if room.slug == request.GET.get("room")), rooms[0] if rooms else None)
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if await services.introduce(request.session, form.cleaned_data["name"]):
            return redirect("room", wanted.slug) if wanted else redirect("entrance")
        form.add_error("name", "Somebody of this name is here already.")
    return render(request, "chat/entrance.html", {"form": form, "rooms": rooms, "wanted": wanted})


@require_POST
async def leave(request):
    await request.session.aflush()
    return redirect("entrance")


@require_safe
async def room(request, slug):
    """The page of a room, with the latest messages. New messages arrive live."""
    rooms = await services.rooms()
    found = next((room for room in rooms if room.slug == slug), None)
    if found is None:
        raise Http404
    visitor = await services.visitor_in(request.session)
    if visitor is None:
        return redirect(f"{reverse('entrance')}?room={slug}")
    context = {
        "room": found,
        "rooms": rooms,
        "visitor": visitor,
        "messages_": await services.history(slug),
        "longest": TEXT_LENGTH,
        "key": uuid4().hex,
    }
    return render(request, "chat/room.html", context)


@require_safe
async def history(request, slug):
    """Earlier messages, as JSON."""
    form = BeforeForm(request.GET)
    if not form.is_valid():
        raise BadRequest(form.errors.as_json())
    if await services.visitor_in(request.session) is None:
        return HttpResponseForbidden("say your name first\n")
    return JsonResponse({"messages": await services.history(slug, **form.cleaned_data)})


@require_safe
async def live(request, slug):
    """What happens, as server-sent events. At the same URL there is a WebSocket: chat/socket.py."""
    form = ArrivalForm(request.GET)
    if not form.is_valid():
        raise BadRequest(form.errors.as_json())
    limited = request.bridge.interface == "wsgi"
    try:
        visit = await hub_of(request).visit(request.session, slug, form.cleaned_data["after"], limited=limited)
    except Room.DoesNotExist as error:
        raise Http404 from error
    return StreamingHttpResponse(
        EventStream(visit),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


class EventStream:
    """A visit as server-sent events (HTML Living Standard, section 9.2)."""

    def __init__(self, visit):
        self._visit = visit

    async def __aiter__(self):
        try:
            async for event in self._visit.events():
                yield f"data: {json.dumps(event)}\n\n"
        finally:
            await self._visit.leave()

    def close(self):
        """The response calls this, even if nobody has read from it."""
        self._visit.close()


@require_POST
async def say(request, slug):
    """Take a message from a page without a WebSocket, or without JavaScript."""
    return await ask(request, hub_of(request).say, slug)


@require_POST
async def here(request, slug):
    """Note that a page without a WebSocket is still open."""
    return await ask(request, hub_of(request).here, slug)


async def ask(request, do, slug):
    visitor = await services.visitor_in(request.session)
    if visitor is None:
        return HttpResponseForbidden("say your name first\n")
    try:
        answer = await do(slug, visitor, request.POST.dict())
    except Room.DoesNotExist as error:
        raise Http404 from error
    if request.get_preferred_type(["text/html", "application/json"]) == "text/html":
        return redirect("room", slug)
    return JsonResponse({"events": [answer] if answer else []})


def hub_of(request):
    """What the startup hook has put into the lifespan's state."""
    return request.scope["state"]["hub"]

import csv

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.messages.views import SuccessMessageMixin
from django.db.models import Q, Sum
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django.views.generic import CreateView, DetailView, ListView

from .forms import DocumentForm, MoveForm, PartForm
from .models import Document, Movement, Part, Warehouse
from .services import MoveError, move_stock


@require_safe
def home(request):
    context = {
        "warehouses": Warehouse.objects.annotate(stored=Sum("stock__quantity", default=0)),
        "to_reorder": Part.objects.to_reorder(),
        "movements": Movement.objects.select_related("part", "source", "target", "moved_by")[:8],
    }
    return render(request, "parts/home.html", context)


class PartList(ListView):
    template_name = "parts/part_list.html"
    paginate_by = 15

    def get_queryset(self):
        parts = Part.objects.with_stock()
        if query := self.request.GET.get("q", "").strip():
            parts = parts.filter(Q(number__icontains=query) | Q(name__icontains=query))
        return parts

    def get_context_data(self, **kwargs):
        return super().get_context_data(query=self.request.GET.get("q", ""), **kwargs)


class PartDetail(DetailView):
    queryset = Part.objects.with_stock()
    slug_field = slug_url_kwarg = "number"

    def get_context_data(self, **kwargs):
        return super().get_context_data(
            stock=self.object.stock.select_related("warehouse"),
            movements=self.object.movements.select_related("source", "target", "moved_by")[:8],
            **kwargs,
        )


class PartCreate(LoginRequiredMixin, SuccessMessageMixin, CreateView):
    form_class = PartForm
    template_name = "parts/form.html"
    success_message = "%(number)s is in the catalogue."

    def get_context_data(self, **kwargs):
        return super().get_context_data(title="New part", action="Save", **kwargs)


class DocumentUpload(LoginRequiredMixin, SuccessMessageMixin, CreateView):
    form_class = DocumentForm
    template_name = "parts/form.html"
    success_message = "%(title)s is stored."

    def setup(self, request, *args, **kwargs):
        super().setup(request, *args, **kwargs)
        self.part = get_object_or_404(Part, number=kwargs["number"])

    def get_context_data(self, **kwargs):
        return super().get_context_data(title=f"Document for {self.part}", action="Upload", **kwargs)

    def form_valid(self, form):
        form.instance.part = self.part
        form.instance.uploaded_by = self.request.user
        return super().form_valid(form)

    def get_success_url(self):
        return self.part.get_absolute_url()


@require_safe
def document(request, pk):
    stored = get_object_or_404(Document, pk=pk)
    return FileResponse(stored.file.open("rb"), as_attachment=True)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def move(request):
    form = MoveForm(request.POST or None, initial={"part": request.GET.get("part")})
    if request.method == "POST" and form.is_valid():
        try:
            movement = move_stock(moved_by=request.user, **form.cleaned_data)
        except MoveError as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, f"Moved {movement}.")
            return redirect(movement.part)
    return render(request, "parts/form.html", {"form": form, "title": "Move stock", "action": "Move"})


class MovementList(ListView):
    queryset = Movement.objects.select_related("part", "source", "target", "moved_by")
    template_name = "parts/movement_list.html"
    paginate_by = 25


class _Line:
    """What `csv.writer` writes to. It returns each line instead of keeping it."""

    def write(self, line):
        return line


def _movement_lines():
    writer = csv.writer(_Line())
    yield writer.writerow(["moved_at", "part", "name", "from", "to", "quantity", "moved_by"])
    for movement in Movement.objects.select_related("part", "source", "target", "moved_by").iterator(chunk_size=100):
        yield writer.writerow(
            [
                timezone.localtime(movement.moved_at).isoformat(timespec="seconds"),
                movement.part.number,
                movement.part.name,
                movement.source.name,
                movement.target.name,
                movement.quantity,
                movement.moved_by.get_username(),
            ]
        )


@require_safe
def movements_csv(request):
    """All movements ever, streamed line by line, however many there are."""
    return StreamingHttpResponse(
        _movement_lines(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="movements.csv"'},
    )


@require_safe
def turnover(request):
    """Movements for each scrapped part. Nothing was ever scrapped, so nobody has seen this report yet."""
    scrapped = Part.objects.filter(notes__istartswith="scrapped").count()
    return HttpResponse(f"{Movement.objects.count() / scrapped:.1f} movements for each scrapped part")

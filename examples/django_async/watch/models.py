from django.db import models


class Site(models.Model):
    class State(models.TextChoices):
        NEW = "new", "not asked yet"
        UP = "up", "up"
        DOWN = "down", "down"

    name = models.CharField(max_length=60)
    url = models.URLField("URL")
    state = models.CharField(max_length=4, choices=State, default=State.NEW)
    # The last answer, or why there was none.
    answer = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name


class Notification(models.Model):
    """A site has come up or gone down."""

    site = models.ForeignKey(Site, models.CASCADE)
    at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=4, choices=Site.State)
    answer = models.CharField(max_length=200)

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return f"{self.site} is {self.state}"

    def as_dict(self):
        return {
            "id": self.pk,
            "site": self.site_id,
            "text": str(self),
            "state": self.state,
            "answer": self.answer,
            "at": self.at.isoformat(timespec="seconds"),
        }

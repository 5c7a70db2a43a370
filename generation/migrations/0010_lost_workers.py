import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("generation", "0009_search")]

    operations = [
        migrations.AddField(
            "generation",
            "losses",
            models.PositiveIntegerField(db_default=0, default=0, help_text="how often its worker was lost"),
        ),
        migrations.AddIndex(
            "generation",
            models.Index(
                condition=models.Q(("losses__gt", 0), ("status", "queued")),
                fields=["created_at"],
                name="generation_suspects",
            ),
        ),
        migrations.CreateModel(
            "WorkerReport",
            [
                ("name", models.CharField(max_length=120, primary_key=True, serialize=False)),
                (
                    "status",
                    models.JSONField(help_text="its engine's status, and how many generations it is `running`"),
                ),
                ("seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
    ]

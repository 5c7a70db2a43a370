from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gallery", "0001_initial")]
    operations = [
        migrations.AddField(
            "collection",
            "deleted_at",
            models.DateTimeField(blank=True, help_text="can be brought back for a while", null=True),
        ),
    ]

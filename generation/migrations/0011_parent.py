import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("generation", "0010_lost_workers")]
    operations = [
        migrations.AddField(
            model_name="generation",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                help_text="the owner's image that drawing started from",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="edits",
                to="generation.generatedimage",
                to_field="id",
            ),
        ),
    ]

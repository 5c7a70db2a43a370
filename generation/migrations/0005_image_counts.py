"""How many images each account has, kept by the database itself."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# One statement may touch many images (COPY, a deleted account): the sums are made once for each statement.
# A deletion only takes away: while an account is deleted its counter may be gone before its images.
FORWARD = """
CREATE FUNCTION generation_count_images() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO generation_imagecount AS c (owner_id, kept)
        SELECT owner_id, count(*) FROM new_images WHERE deleted_at IS NULL GROUP BY owner_id ORDER BY owner_id
        ON CONFLICT (owner_id) DO UPDATE SET kept = c.kept + EXCLUDED.kept;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO generation_imagecount AS c (owner_id, kept)
        SELECT owner_id, sum(change) FROM (
            SELECT owner_id, 1 AS change FROM new_images WHERE deleted_at IS NULL
            UNION ALL SELECT owner_id, -1 FROM old_images WHERE deleted_at IS NULL) changes
        GROUP BY owner_id HAVING sum(change) <> 0 ORDER BY owner_id
        ON CONFLICT (owner_id) DO UPDATE SET kept = c.kept + EXCLUDED.kept;
    ELSE
        UPDATE generation_imagecount c SET kept = c.kept - gone.n
        FROM (SELECT owner_id, count(*) AS n FROM old_images WHERE deleted_at IS NULL GROUP BY owner_id) gone
        WHERE c.owner_id = gone.owner_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER generation_count_inserted AFTER INSERT ON generation_generatedimage
    REFERENCING NEW TABLE AS new_images FOR EACH STATEMENT EXECUTE FUNCTION generation_count_images();
CREATE TRIGGER generation_count_updated AFTER UPDATE ON generation_generatedimage
    REFERENCING OLD TABLE AS old_images NEW TABLE AS new_images
    FOR EACH STATEMENT EXECUTE FUNCTION generation_count_images();
CREATE TRIGGER generation_count_deleted AFTER DELETE ON generation_generatedimage
    REFERENCING OLD TABLE AS old_images FOR EACH STATEMENT EXECUTE FUNCTION generation_count_images();
INSERT INTO generation_imagecount (owner_id, kept)
    SELECT owner_id, count(*) FROM generation_generatedimage WHERE deleted_at IS NULL GROUP BY owner_id;
"""
BACKWARD = """
DROP TRIGGER generation_count_inserted ON generation_generatedimage;
DROP TRIGGER generation_count_updated ON generation_generatedimage;
DROP TRIGGER generation_count_deleted ON generation_generatedimage;
DROP FUNCTION generation_count_images();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0004_webhooks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="ImageCount",
            fields=[
                ("owner", models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True,
                                               related_name="+", serialize=False, to=settings.AUTH_USER_MODEL)),
                ("kept", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]

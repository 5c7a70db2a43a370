"""Consistency counts, all 0 in a healthy installation: quota against holds, rows against files, lost jobs."""

import hashlib

from django.core.files.storage import default_storage
from django.db import connection

from generation.models import GeneratedImage
from generation.storage.files import image_file_names

QUERIES = {
    "usage that differs from its holds": """
        SELECT count(*) FROM accounts_dailyusage u WHERE u.held <> (SELECT coalesce(sum(images), 0)
        FROM accounts_quotahold h WHERE h.user_id = u.user_id AND h.day = u.day AND h.state = 'held')
        OR u.used <> (SELECT coalesce(sum(charged), 0) FROM accounts_quotahold h WHERE h.user_id = u.user_id
        AND h.day = u.day AND h.state = 'settled')
    """,
    "holds without a day of usage": """
        SELECT count(*) FROM accounts_quotahold h WHERE NOT EXISTS (SELECT 1 FROM accounts_dailyusage u
        WHERE u.user_id = h.user_id AND u.day = h.day)
    """,
    "open holds of ended generations": """
        SELECT count(*) FROM accounts_quotahold h WHERE h.state = 'held' AND NOT EXISTS (SELECT 1
        FROM generation_generation g WHERE g.id = h.generation_id AND g.status IN ('queued', 'processing'))
    """,
    "waiting or running generations without a hold": """
        SELECT count(*) FROM generation_generation g WHERE g.status IN ('queued', 'processing')
        AND NOT EXISTS (SELECT 1 FROM accounts_quotahold h WHERE h.generation_id = g.id
        AND h.state = 'held')
    """,
    "completed generations charged wrongly": """
        SELECT count(*) FROM generation_generation g JOIN accounts_quotahold h ON h.generation_id = g.id
        WHERE g.status = 'completed' AND (h.state <> 'settled' OR h.charged <> g.image_count)
    """,
    "ended generations charged although nothing came of them": """
        SELECT count(*) FROM generation_generation g JOIN accounts_quotahold h ON h.generation_id = g.id
        WHERE g.status IN ('failed', 'blocked', 'expired') AND h.charged > 0
    """,
    "completed generations without a picture": """
        SELECT count(*) FROM generation_generation WHERE status = 'completed' AND image_count = 0
    """,
    "more pictures than reported": """
        SELECT count(*) FROM generation_generation g WHERE g.image_count < (SELECT count(*)
        FROM generation_generatedimage i WHERE i.generation_id = g.id)
    """,
    "pictures of somebody else's generation": """
        SELECT count(*) FROM generation_generatedimage i
        JOIN generation_generation g ON g.id = i.generation_id WHERE i.owner_id <> g.owner_id
    """,
    "totals of images that differ from the images": """
        SELECT count(*) FROM (SELECT owner_id, count(*) AS kept FROM generation_generatedimage
        WHERE deleted_at IS NULL GROUP BY owner_id) i FULL JOIN generation_imagecount c USING (owner_id)
        WHERE coalesce(i.kept, 0) <> coalesce(c.kept, 0)
    """,
    "running generations whose lease ran out two minutes ago": """
        SELECT count(*) FROM generation_generation WHERE status = 'processing'
        AND lease_until < clock_timestamp() - interval '2 minutes'
    """,
    "generations two minutes past their deadline": """
        SELECT count(*) FROM generation_generation WHERE status IN ('queued', 'processing')
        AND deadline_at < clock_timestamp() - interval '2 minutes'
    """,
    "webhook messages that nobody carried for an hour": """
        SELECT count(*) FROM generation_webhookdelivery d
        JOIN generation_webhookendpoint e ON e.id = d.endpoint_id WHERE d.state = 'pending'
        AND (NOT e.enabled OR d.next_at < clock_timestamp() - interval '1 hour')
    """,
}


def audit(*, contents: bool = False) -> dict[str, int]:
    """Every count, by what it counts. `contents`: also read each file and compare its SHA-256."""
    report = {}
    with connection.cursor() as cursor:
        for name, query in QUERIES.items():
            cursor.execute(query)
            report[name] = cursor.fetchone()[0]
    report |= _files(contents)
    return report


def _files(contents: bool) -> dict[str, int]:
    missing = thumbnails = differing = 0
    for image in GeneratedImage.objects.only("file", "thumbnail", "thumbnail_size", "sha256").iterator(chunk_size=1000):
        if not default_storage.exists(image.file):
            missing += 1
        elif contents:
            with default_storage.open(image.file) as file:
                differing += hashlib.sha256(file.read()).hexdigest() != image.sha256
        thumbnails += not all(default_storage.exists(name) for name in image_file_names(image)[1:])
    report = {"pictures without their file": missing, "pictures without all their thumbnails": thumbnails}
    return report | ({"files that differ from their hash": differing} if contents else {})

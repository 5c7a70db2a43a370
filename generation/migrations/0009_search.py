"""Full-text search of images and what the gallery filters by, copied to the image's row; widths of thumbnails.

Postgres itself does it all, without extensions and without regard to the database's locale: the same words are found
everywhere. `search` is a column that only the database knows; a trigger fills it and the copies of the generation.
"""

import unicodedata

from django.conf import settings
from django.db import migrations, models
from django.db.models import Case, F, Q, Value, When

FOLDED_BLOCKS = ((0xC0, 0x24F), (0x370, 0x52F), (0x531, 0x556), (0x10A0, 0x10C5), (0x1C90, 0x1CBF))
LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ŧ": "t", "ŋ": "n", "ς": "σ"}


def _small_letters() -> tuple[str, str]:
    """Capitals beyond ASCII, and letters that only look like a letter with an accent, beside what stands for them."""
    pairs = {
        letter: LETTERS.get(letter.lower(), letter.lower())
        for first, last in FOLDED_BLOCKS
        for letter in map(chr, range(first, last + 1))
        if letter.lower() != letter and len(letter.lower()) == 1 and not unicodedata.decomposition(letter)
    } | LETTERS
    return "".join(pairs), "".join(pairs.values())


CAPITALS, SMALL = _small_letters()
# Accents, vowel points, variation selectors and what has no width.
MARKS = (
    r"\u00ad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640"
    r"\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u2060\u20d0-\u20ff"
    r"\ufe00-\ufe0f\ufe20-\ufe2f\ufeff"
)
# Written without spaces between words: each letter counts as a word, so that every part is found as a phrase.
LONE = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u3105-\u312f"
    r"\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U0001f000-\U0001faff"
    r"\U00020000-\U0003ffff"
)
SEPARATORS = (
    r"\u0001-\u002f\u003a-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u02c2-\u02df\u055a-\u055f\u0589"
    r"\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u2010-\u205f\u2061-\u206f"
    r"\u20a0-\u20c0\u2190-\u23ff\u2500-\u25ff\u2e00-\u2e7f\u3000-\u3004\u3008-\u303f\u30fb"
)

FUNCTIONS = f"""
CREATE FUNCTION generation_search_words(words text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    words := lower(left(words, 20000) COLLATE "C");
    IF words ~ '[^\\x01-\\x7f]' THEN
        words := regexp_replace(normalize(words, NFKD), '[{MARKS}]+', '', 'g');
        words := translate(lower(normalize(words, NFC) COLLATE "C"), '{CAPITALS}', '{SMALL}');
        words := replace(replace(replace(replace(words, 'æ', 'ae'), 'œ', 'oe'), 'ß', 'ss'), 'þ', 'th');
        words := regexp_replace(words, '([{LONE}])', ' \\1 ', 'g');
    END IF;
    words := btrim(regexp_replace(words, '[{SEPARATORS}]+', ' ', 'g'));
    RETURN ARRAY(SELECT left(word, 60) FROM unnest(string_to_array(words, ' ')) WITH ORDINALITY AS w(word, place)
                 WHERE word <> '' ORDER BY place LIMIT 4000);
END $$;

CREATE FUNCTION generation_search_vector(owner_id bigint, title text, prompt text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    in_title text[] := generation_search_words(title);
    in_prompt text[] := generation_search_words(prompt);
    words text;
BEGIN
    SELECT string_agg('''' || word || ''':' || place, ' ') INTO words FROM (
        SELECT word, place FROM unnest(in_title) WITH ORDINALITY AS w(word, place)
        -- A gap, so that no phrase reaches from the title into the prompt.
        UNION ALL SELECT word, place + cardinality(in_title) + 2 FROM unnest(in_prompt) WITH ORDINALITY AS w(word, place)
    ) all_words;
    -- No word holds an @: the owner is one more word, so that one index finds a word among an owner's images only.
    RETURN coalesce(words, '')::tsvector || array_to_tsvector(ARRAY['@' || owner_id]);
END $$;

CREATE FUNCTION generation_search_query(owner_id bigint, terms text[], whole boolean[]) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    query tsquery := NULL;
    words text[];
    term text;
BEGIN
    FOR n IN 1 .. coalesce(cardinality(terms), 0) LOOP
        words := generation_search_words(terms[n]);
        CONTINUE WHEN cardinality(words) = 0;
        term := '''' || array_to_string(words, ''' <-> ''') || '''' || CASE WHEN whole[n] THEN '' ELSE ':*' END;
        query := CASE WHEN query IS NULL THEN term::tsquery ELSE query && term::tsquery END;
    END LOOP;
    -- Nothing but signs: nothing is found.
    RETURN coalesce(query, '''@'''::tsquery) && ('''@' || owner_id || '''')::tsquery;
END $$;

CREATE FUNCTION generation_describe_image() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    source generation_generation;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- Copies of what never changes; a program that saves a whole row must not spoil them.
        NEW.model := OLD.model;
        NEW.style := OLD.style;
        NEW.mode := OLD.mode;
        NEW.has_source := OLD.has_source;
        NEW.search := OLD.search;
        IF NEW.title = OLD.title AND NEW.owner_id = OLD.owner_id THEN
            RETURN NEW;
        END IF;
    END IF;
    SELECT * INTO STRICT source FROM generation_generation WHERE id = NEW.generation_id;
    IF TG_OP = 'INSERT' THEN
        NEW.model := source.model;
        NEW.style := source.style;
        NEW.mode := source.mode;
        NEW.has_source := jsonb_path_exists(source.options, '$.*.image ? (@ != null)');
    END IF;
    NEW.search := generation_search_vector(NEW.owner_id, NEW.title, source.prompt);
    RETURN NEW;
END $$;
"""
DROP_FUNCTIONS = """
DROP FUNCTION generation_describe_image();
DROP FUNCTION generation_search_query(bigint, text[], boolean[]);
DROP FUNCTION generation_search_vector(bigint, text, text);
DROP FUNCTION generation_search_words(text);
"""
FILL = """
ALTER TABLE generation_generatedimage DISABLE TRIGGER generation_count_updated;
UPDATE generation_generatedimage i SET
    model = g.model, style = g.style, mode = g.mode,
    has_source = jsonb_path_exists(g.options, '$.*.image ? (@ != null)'),
    search = generation_search_vector(i.owner_id, i.title, g.prompt)
FROM generation_generation g WHERE g.id = i.generation_id;
ALTER TABLE generation_generatedimage ENABLE TRIGGER generation_count_updated;
"""
# Words that wait to be sorted into the index are read by every search: only few may wait.
INDEX_AND_TRIGGER = """
CREATE INDEX image_search ON generation_generatedimage USING gin (search) WITH (gin_pending_list_limit = 256);
ALTER TABLE generation_generatedimage ALTER COLUMN search SET STATISTICS 1000;
CREATE TRIGGER generation_describe_image BEFORE INSERT OR UPDATE ON generation_generatedimage
    FOR EACH ROW EXECUTE FUNCTION generation_describe_image();
"""
DROP_TRIGGER = """
DROP TRIGGER generation_describe_image ON generation_generatedimage;
DROP INDEX image_search;
"""


def copied(name: str, field: models.Field) -> migrations.AddField:
    return migrations.AddField("generatedimage", name, field)


def gallery_index(name: str, *fields: str) -> migrations.AddIndex:
    return migrations.AddIndex(
        "generatedimage", models.Index(fields=fields, name=name, condition=Q(deleted_at=None)))


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0008_taken_down"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        copied("model", models.CharField(db_default="", default="", editable=False, max_length=80)),
        copied("style", models.CharField(db_default="", default="", editable=False, max_length=40)),
        copied("mode", models.CharField(db_default="txt2img", default="txt2img", editable=False, max_length=8)),
        copied("has_source", models.BooleanField(
            db_default=False, default=False, editable=False, help_text="drawn from a picture, not from words alone")),
        copied("thumbnail_size", models.PositiveSmallIntegerField(
            db_default=0, default=0,
            help_text="longer side of the widest thumbnail; 0: only the one that `thumbnail` names")),
        copied("pixels", models.GeneratedField(
            db_persist=True, expression=F("width") * F("height"), output_field=models.IntegerField())),
        copied("shape", models.GeneratedField(
            db_persist=True,
            expression=Case(
                When(width__gt=F("height") * 1.05, then=Value("landscape")),
                When(height__gt=F("width") * 1.05, then=Value("portrait")),
                default=Value("square"),
            ),
            output_field=models.CharField(max_length=9))),
        copied("size", models.GeneratedField(
            db_persist=True,
            expression=Case(
                When(Q(width__lte=512, height__lte=512), then=Value("small")),
                When(Q(width__lte=1024, height__lte=1024), then=Value("medium")),
                When(Q(width__lte=2048, height__lte=2048), then=Value("large")),
                default=Value("huge"),
            ),
            output_field=models.CharField(max_length=6))),
        migrations.RunSQL(
            "ALTER TABLE generation_generatedimage ADD COLUMN search tsvector",
            "ALTER TABLE generation_generatedimage DROP COLUMN search",
        ),
        migrations.RunSQL(FUNCTIONS, DROP_FUNCTIONS),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(INDEX_AND_TRIGGER, DROP_TRIGGER),
        gallery_index("image_of_model", "owner", "model", "-number"),
        gallery_index("image_of_style", "owner", "style", "-number"),
        gallery_index("image_of_mode", "owner", "mode", "-number"),
        gallery_index("image_of_shape", "owner", "shape", "-number"),
        gallery_index("image_of_size", "owner", "size", "-number"),
        gallery_index("image_of_visibility", "owner", "visibility", "-number"),
        gallery_index("image_of_age", "owner", "-created_at", "-number"),
        gallery_index("image_of_pixels", "owner", "-pixels", "-number"),
        migrations.AddIndex("generatedimage", models.Index(
            fields=["owner", "-number"], name="image_with_source", condition=Q(deleted_at=None, has_source=True))),
    ]

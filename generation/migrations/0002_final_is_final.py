"""The database itself refuses to change the final state of a generation, whatever the code does."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION generation_final_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'generation % is %, which is final', OLD.id, OLD.status USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER generation_final_is_final BEFORE UPDATE ON generation_generation FOR EACH ROW
    WHEN (OLD.status IN ('completed', 'failed', 'blocked', 'cancelled', 'expired') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION generation_final_is_final();
"""
BACKWARD = """
DROP TRIGGER generation_final_is_final ON generation_generation;
DROP FUNCTION generation_final_is_final();
"""


class Migration(migrations.Migration):
    dependencies = [("generation", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]

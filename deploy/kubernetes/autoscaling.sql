-- A role for KEDA that sees how much waits and nothing of anybody's data: run as the platform's role or a superuser, with
--   psql -v password="'...'" -f deploy/kubernetes/autoscaling.sql
CREATE ROLE datasense_autoscaling LOGIN CONNECTION LIMIT 10 PASSWORD :password;
GRANT USAGE ON SCHEMA datasense TO datasense_autoscaling;
GRANT SELECT (run_id, status) ON runs TO datasense_autoscaling;
GRANT SELECT (run_id, key, value) ON run_tags TO datasense_autoscaling;
GRANT SELECT (source_id, next_due_at, put_off_until) ON datasense.source_status TO datasense_autoscaling;
GRANT SELECT (id, org_id) ON datasense.sources TO datasense_autoscaling;
GRANT SELECT (org_id, source_id) ON datasense.pauses TO datasense_autoscaling;

"""The job that delivers what is due on one channel of the alerts."""

from fademoe.alerts.channels import send
from fademoe.alerts.outbox import deliver as deliver_due
from fademoe.errors import StoreError
from fademoe.runtime.job_context import JobContext, wrap_job

FOR_S = 20.0  # a job ends by then and leaves the rest to the next one


@wrap_job
def deliver(context: JobContext, channel: str) -> int:
    """Send what is due on a channel; return the number of attempts.

    The alerts program enqueues the next job, also when this one ends because PostgreSQL is away.
    """
    services = context.services
    try:
        return deliver_due(services.database, channel, services.settings.web_url, send, for_s=FOR_S)
    except StoreError:
        services.database.close()
        return 0

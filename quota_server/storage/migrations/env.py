"""Run by Alembic: migrates the connection that it is given, inside that connection's transaction."""

from alembic import context

from quota_server.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

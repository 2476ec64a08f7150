"""The query gateway of one index: one arm embeds and searches a query; the old arm answers for a failing new one."""

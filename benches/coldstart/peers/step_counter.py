"""Increases the step of the event by one."""


def handler(event, _context):
    event["Input"]["step"] += 1
    return event

"""Patches of ministack's Step Functions interpreter, put in place when this package is imported.

Postern depends on callback tasks (`.waitForTaskToken`), so this package replaces the part of the
interpreter that runs tasks, branches and whole executions. ministack's own code evaluates paths,
intrinsic functions and JSONata, runs Choice, Wait and Pass states, and calls most services.
Pages named in the docstrings are of the AWS Step Functions Developer Guide.

Each module imports only from those before it in this list:

faults        errors of states, refusals of the API, sizes
scope         waiting and cancellation
history       the events of an execution
tokens        task tokens and the answers to them, with the permission to answer
paths         JSONPath, variables, input and output of states
retries       Retry and Catch
tasks         Task states: calls, callbacks, timeouts and heartbeats
branches      Parallel and Map
definitions   what CreateStateMachine refuses
integrations  Lambda functions, child executions, AWS SDK calls
executions    the states of an execution in turn; start, end, stop, TimeoutSeconds
"""

from patches.stepfunctions import (  # noqa: F401
    branches,
    definitions,
    executions,
    integrations,
    retries,
    tasks,
    tokens,
)

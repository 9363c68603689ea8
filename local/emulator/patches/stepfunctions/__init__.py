"""Mends of ministack's Step Functions interpreter, put in place when this package is imported.

Everything under test in Postern hangs on callback tasks (`.waitForTaskToken`), so the part of
the interpreter that runs tasks, branches and whole executions is written anew here; ministack's
own code still does paths, intrinsic functions, JSONata, Choice, Wait, Pass and the service calls.
Pages named in the docstrings are of the AWS Step Functions Developer Guide.

Each module imports only from those before it in this list:

faults        errors of states, refusals of the API, sizes
scope         waiting, and being told to stop
history       the events of an execution
tokens        task tokens and the answers to them, with the permission to answer
paths         JSONPath, variables, input and output of states
retries       Retry and Catch
tasks         Task states: calls, callbacks, timeouts and heartbeats
branches      Parallel and Map
definitions   what CreateStateMachine refuses
integrations  Lambda functions, child executions, AWS SDK calls
executions    walking through the states; start, end, stop, TimeoutSeconds
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

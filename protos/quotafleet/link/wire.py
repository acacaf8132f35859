"""The messages of the link as protobuf, and back.

The directions from protobuf check every field and raise FieldError with its path, as in
`report.standings[3].totals.released`; what they return keeps every bound that the proto states. The directions to
protobuf trust their own program. `from_x(to_x(message)) == message` for every message within its bounds.

Every heartbeat of every agent passes here, so the code fills messages in place and looks fields up once.
"""

from quotafleet.link.from_agent import from_request, to_request
from quotafleet.link.from_controller import from_response, to_response

__all__ = ["from_request", "from_response", "to_request", "to_response"]

"""A seeded simulation of the real programs: many agents, a controller, operators, and every fault we can make.

What runs is the production code from the gate and the ledger up to the streams: `Gate`, `Uplink`, `Fleet`,
`AgentLinkService` and the operators' use cases. Simulated are the event loop's time, the network, the disks, the
machines' clocks, and the people. One seed decides everything; see docs/simulation.md.
"""

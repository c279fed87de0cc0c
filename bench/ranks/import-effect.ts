/** Imports all of Effect, whose cost tells how fast a machine is: it is no code of ours. */
import "effect";

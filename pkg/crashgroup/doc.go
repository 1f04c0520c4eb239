// Package crashgroup owns the groups of crashes that are one bug: how often each happened, when, in which images, and
// whether it is new, known, resolved or came back. It must not know dumps: it counts what it is told of each, once, and
// keeps that when the dumps are gone.
package crashgroup

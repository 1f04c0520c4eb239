// Package journal owns a node's bounded record of events, by tenant: files of numbered lines that survive a kill -9 of the daemon.
// It must not know what an event means, nor who listens; readers come with a sequence number or a time.
package journal

// Package jsonlog owns Docker's json-file log format on disk: encoding a stream of output into records, writing and
// rotating the files, repairing what a crash tore, and reading them back (tail, time bounds, follow). It must not know
// processes or pipes: it is handed bytes and tells where they went.
//
// A record is one JSON object on a line: {"log":"text\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}.
// A line of output longer than MaxLine becomes several records, of which only the last ends with a newline.
package jsonlog

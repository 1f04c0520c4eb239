// Command ryuk is a stand-in for the reaper of testcontainers, which tests cannot pull. It speaks the reaper's protocol: clients
// send lines like label=KEY=VALUE on port 8080 and each is answered ACK; when the last client has gone for good, whatever
// matches a line is removed by the Docker API on /var/run/docker.sock. Then it ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// firstClient is how long to wait for a client at all, nextClient for another after the last one left.
	firstClient = time.Minute
	nextClient  = time.Second
)

// line is what a client said; none: it came (1) or left (-1).
type line struct {
	filter url.Values
	count  int
}

func main() {
	log.SetOutput(os.Stdout)
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	lines := make(chan line)
	go accept(l, lines)
	log.Print("Started!")
	if err := reap(gather(lines)); err != nil {
		log.Fatal(err)
	}
}

func accept(l net.Listener, lines chan<- line) {
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		lines <- line{count: 1}
		go serve(conn, lines)
	}
}

func serve(conn net.Conn, lines chan<- line) {
	defer func() { conn.Close(); lines <- line{count: -1} }()
	for in := bufio.NewScanner(conn); in.Scan(); {
		filter, err := url.ParseQuery(in.Text())
		if err != nil {
			log.Printf("line %q: %v", in.Text(), err)
			return
		}
		lines <- line{filter: filter}
		if _, err := io.WriteString(conn, "ACK\n"); err != nil {
			return
		}
	}
}

// gather returns what clients said once the last of them has been gone for a while.
func gather(lines <-chan line) []url.Values {
	var filters []url.Values
	clients := 0
	for patience := time.NewTimer(firstClient); ; {
		select {
		case l := <-lines:
			if l.filter != nil {
				filters = append(filters, l.filter)
			}
			if clients += l.count; clients > 0 {
				patience.Stop()
			} else {
				patience.Reset(nextClient)
			}
		case <-patience.C:
			return filters
		}
	}
}

// docker speaks to the engine.
var docker = http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", "/var/run/docker.sock")
}}}

// call sends a request without a body and decodes the answer into out, if that is not nil.
func call(method, path string, query url.Values, out any) error {
	req, err := http.NewRequest(method, "http://docker"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := docker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 400 && resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%s %s: %s %s %w", method, path, resp.Status, body, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// reap removes what matches any of the filters: containers, then what they used.
func reap(filters []url.Values) error {
	var errs []error
	for _, filter := range filters {
		text, err := json.Marshal(filter)
		if err != nil {
			return err
		}
		match := url.Values{"filters": {string(text)}}
		var networks []struct{ ID string }
		var containers []struct {
			ID     string
			Labels map[string]string
		}
		var volumes struct{ Volumes []struct{ Name string } }
		errs = append(errs,
			call("GET", "/containers/json", url.Values{"filters": match["filters"], "all": {"1"}}, &containers))
		for _, c := range containers {
			if c.Labels["org.testcontainers.ryuk"] == "true" {
				continue // itself
			}
			errs = append(errs, call("DELETE", "/containers/"+c.ID, url.Values{"force": {"1"}, "v": {"1"}}, nil))
		}
		errs = append(errs, call("GET", "/networks", match, &networks), call("GET", "/volumes", match, &volumes))
		for _, n := range networks {
			errs = append(errs, call("DELETE", "/networks/"+n.ID, nil, nil))
		}
		for _, v := range volumes.Volumes {
			errs = append(errs, call("DELETE", "/volumes/"+v.Name, nil, nil))
		}
		log.Printf("%s: %d containers, %d networks, %d volumes", text, len(containers), len(networks), len(volumes.Volumes))
	}
	return errors.Join(errs...)
}

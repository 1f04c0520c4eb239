package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/dashboard"
)

// clients opens n sockets on the table of another fleet and reads them until ctx ends; the first stalled of them never read.
func clients(ctx context.Context, url string, n, stalled int) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		d := websocket.Dialer{Subprotocols: []string{dashboard.Subprotocol}}
		header := http.Header{"Origin": {url}, "Cookie": {cookie + "=acme"}}
		//nolint:bodyclose // of an upgrade there is none (gorilla/websocket)
		conn, _, err := d.DialContext(ctx, strings.Replace(url, "http", "ws", 1)+dashboard.Path, header)
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		if err := conn.WriteJSON(dashboard.Request{Op: "sub", ID: 1, Topic: "containers"}); err != nil {
			return err
		}
		g.Go(func() error {
			<-ctx.Done()
			return conn.Close()
		})
		if i >= stalled {
			g.Go(func() error { return listen(ctx, conn) })
		}
	}
	return g.Wait()
}

// listen acknowledges what comes, as the page does.
func listen(ctx context.Context, conn *websocket.Conn) error {
	for n := uint64(0); ; {
		kind, _, err := conn.ReadMessage()
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end that was asked for
			}
			return err
		}
		if kind == websocket.BinaryMessage {
			n++
			if err := conn.WriteJSON(dashboard.Request{Op: "ack", N: n}); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

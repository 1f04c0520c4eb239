package tritonapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestQuestionsAreAnsweredInLines(t *testing.T) {
	owner := &auth.Caller{Name: "a", Tenant: "acme"}
	path := wire.AskQuery(question.Text{Metric: "syscall", Where: "comm=nginx && errno!=0", By: "container,latency"})
	status, body := ask(newAPI(), "GET "+path, "", owner)
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if status != http.StatusOK || len(lines) != 2 || !strings.Contains(lines[0], `"rows":[{"key":{"container":"acmes-web"},"count":2,`) ||
		!strings.Contains(lines[0], `"lost":3`) || !strings.Contains(lines[1], `"ended":`) {
		t.Errorf("%d: %s", status, body)
	}
	if status, body := ask(newAPI(), "GET "+path, "", &auth.Caller{Name: "b", Tenant: triton.Tenant("busy")}); status != http.StatusTooManyRequests {
		t.Errorf("one too many answers %d: %s", status, body)
	}
}

func TestMistakesInQuestionsAreToldWithTheirPlace(t *testing.T) {
	owner := &auth.Caller{Name: "a", Tenant: "acme"}
	for _, c := range []struct {
		text question.Text
		want wire.Mistake
	}{
		{question.Text{Metric: "syscall", Where: "comm=x && errno=ENOENTT"}, wire.Mistake{In: "where", At: 16}},
		{question.Text{Metric: "syscall", By: "comm,colour"}, wire.Mistake{In: "by", At: 5}},
		{question.Text{Metric: "speed"}, wire.Mistake{In: "metric"}},
		{question.Text{Metric: "block", Where: "device=../../etc"}, wire.Mistake{In: "where", At: 7}},
	} {
		status, body := ask(newAPI(), "GET "+wire.AskQuery(c.text), "", owner)
		var got wire.Mistake
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusBadRequest || got.In != c.want.In || got.At != c.want.At || got.Message == "" || got.What == "" {
			t.Errorf("%+v: %d %s", c.text, status, body)
		}
	}
	for _, query := range []string{"metric=syscall&speed=1", "metric=syscall&metric=block"} {
		if status, body := ask(newAPI(), "GET "+wire.AskPath+"?"+query, "", owner); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

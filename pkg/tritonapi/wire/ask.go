package wire

import (
	"net/url"

	"github.com/tritond/triton/pkg/question"
)

// AskPath streams what a question is answered, a JSON object of question.Answer a line, one a second from the moment of the
// answer's head on. Parameters: metric, where, by. What is not understood is 400 with a Mistake, too many questions at a time are 429.
const AskPath = Prefix + "ask"

// AskQuery is AskPath with a question.
func AskQuery(t question.Text) string {
	v := url.Values{"metric": {t.Metric}}
	for name, value := range map[string]string{"where": t.Where, "by": t.By} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return AskPath + "?" + v.Encode()
}

// Mistake is why a question was not understood.
type Mistake struct {
	Message string `json:"message"` // all of it
	In      string `json:"in"`      // metric, where or by
	At      int    `json:"at"`      // bytes before it
	What    string `json:"what"`
}

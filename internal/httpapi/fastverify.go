package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/keys"
)

const (
	verifyPath = "/v1/keys/verify"
	// maxFastBody is the largest body that is read here, in bytes. Real ones have a few hundred.
	maxFastBody = 4 << 10
)

// fastVerify answers the plain case of a verify without the machinery of the other operations, which costs several
// times what a verify from memory does. Whatever is not plain (another method or credential, a body that the contract
// may not allow, an error) goes the ordinary way, which judges it: what is answered here must be what would be answered
// there.
type fastVerify struct {
	*server
	next http.Handler
	bufs sync.Pool
}

func newFastVerify(s *server, next http.Handler) *fastVerify {
	return &fastVerify{server: s, next: next, bufs: sync.Pool{New: func() any { return &fastBuffer{} }}}
}

type fastBuffer struct {
	body   [maxFastBody]byte
	answer []byte
}

func (f *fastVerify) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != verifyPath || !f.plain(r) {
		f.next.ServeHTTP(w, r)
		return
	}
	buf, _ := f.bufs.Get().(*fastBuffer)
	defer f.bufs.Put(buf)
	body := buf.body[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return // the caller is gone
	}
	text := string(body) // the request's strings are parts of it, and outlive the buffer
	request, ok := parseVerify(text)
	if !ok {
		f.ordinary(w, r, text)
		return
	}
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if request.Cost != nil { // what is answered from memory needs no deadline
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
	}
	defer cancel()
	v, err := f.verify(ctx, &request)
	id := f.begin(w, r)
	if err != nil { // it may have been spent: nothing is run again
		status := sendProblem(err, w, r, id)
		f.Logger.LogAttrs(ctx, slog.LevelError, "verify", slog.String("requestId", id), slog.Int("status", status),
			slog.String("error", errorText(err)))
		return
	}
	rateHeaders(w.Header(), v)
	w.Header()["Content-Type"] = jsonType
	buf.answer = appendVerdict(buf.answer[:0], v)
	_, _ = w.Write(buf.answer) // the caller may be gone; there is nobody to tell
	f.Logger.LogAttrs(ctx, slog.LevelDebug, "verify", slog.String("requestId", id), slog.String("code", string(v.code)))
}

// plain reports whether the request is one that can be answered here.
func (f *fastVerify) plain(r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.ContentLength <= 0 || r.ContentLength > maxFastBody {
		return false
	}
	if kind := r.Header["Content-Type"]; len(kind) != 1 || kind[0] != echo.MIMEApplicationJSON {
		return false
	}
	authorization := r.Header["Authorization"]
	if len(authorization) != 1 {
		return false
	}
	token, ok := strings.CutPrefix(authorization[0], "Bearer ")
	if !ok {
		return false
	}
	kind, ok := f.Tokens.kindOf(token)
	return ok && kind == serviceToken
}

func (f *fastVerify) ordinary(w http.ResponseWriter, r *http.Request, body string) {
	again := r.Clone(r.Context())
	again.Body, again.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	f.next.ServeHTTP(w, again)
}

// begin sets what every answer carries, and returns the request's id.
func (f *fastVerify) begin(w http.ResponseWriter, r *http.Request) (requestID string) {
	requestID = r.Header.Get(echo.HeaderXRequestID)
	if !requestIDShape.MatchString(requestID) {
		requestID = f.IDs.New("req")
	}
	header := w.Header()
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff
	header[echo.HeaderXRequestID] = []string{requestID}
	return requestID
}

// Values of header fields, which net/http does not change.
var (
	jsonType = []string{echo.MIMEApplicationJSON}
	noStore  = []string{"no-store"}
	noSniff  = []string{"nosniff"}
)

// rateHeaders tells of the rate limits, as draft-ietf-httpapi-ratelimit-headers has it.
func rateHeaders(header http.Header, v verdict) {
	if len(v.rates) == 0 {
		return
	}
	var policy, state []string
	for _, r := range v.rates {
		window := int64(r.limit.Window / time.Second)
		policy = append(policy, strconv.Quote(r.name)+";q="+strconv.Itoa(int(r.limit.Requests))+";w="+strconv.FormatInt(window, 10))
		state = append(state, strconv.Quote(r.name)+";r="+strconv.FormatInt(r.decision.Remaining, 10)+
			";t="+strconv.FormatInt(seconds(r.decision.Reset), 10))
	}
	header.Set("RateLimit-Policy", strings.Join(policy, ", "))
	header.Set("RateLimit", strings.Join(state, ", "))
	if v.code == rateLimited {
		header.Set(echo.HeaderRetryAfter, strconv.FormatInt(seconds(v.retryAfter), 10))
	}
}

func seconds(d time.Duration) int64 { return max(1, int64(math.Ceil(d.Seconds()))) }

// rendering is what a verdict says of a key, whatever was asked.
type rendering struct {
	KeyID       string            `json:"keyId"`
	AccountID   string            `json:"accountId"`
	Tier        string            `json:"tier"`
	Scopes      []keys.Scope      `json:"scopes,omitempty"`
	ExpiresAt   *time.Time        `json:"expiresAt,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	CreditLimit *int64            `json:"creditLimit,omitempty"`
	RateLimit   *api.RateLimit    `json:"rateLimit,omitempty"`
}

// rendered returns the fields of a key, as `,"keyId":...`. They are made once for each that is known.
func rendered(k *keys.Known) []byte {
	if kept := k.Rendering.Load(); kept != nil {
		return *kept
	}
	made, err := json.Marshal(rendering{
		KeyID: k.KeyID, AccountID: k.AccountID, Tier: string(k.Account.Tier), Scopes: k.Scopes,
		ExpiresAt: optionalSecond(k.ExpiresAt), Metadata: k.Metadata, CreditLimit: k.CreditLimit,
		RateLimit: toRateLimit(k.RateLimit),
	})
	if err != nil {
		return nil // strings and numbers always encode
	}
	made[0] = ','
	made = made[:len(made)-1]
	k.Rendering.Store(&made)
	return made
}

func appendVerdict(b []byte, v verdict) []byte {
	if v.code == keys.Valid {
		b = append(b, `{"valid":true,"code":"valid"`...)
	} else {
		b = append(b, `{"valid":false,"code":"`...)
		b = append(append(b, v.code...), '"')
	}
	if v.known != nil {
		b = append(b, rendered(v.known)...)
	}
	if o := v.outcome; o != nil {
		b = append(appendASCII(append(b, `,"eventId":"`...), v.eventID), `","credits":`...)
		b = strconv.AppendInt(b, o.Credits, 10)
		b = strconv.AppendBool(append(b, `,"duplicate":`...), o.Duplicate)
		b = strconv.AppendInt(append(b, `,"remaining":`...), o.Remaining, 10)
		if o.KeyRemaining != nil {
			b = strconv.AppendInt(append(b, `,"keyRemaining":`...), *o.KeyRemaining, 10)
		}
	}
	if v.code == rateLimited {
		b = strconv.AppendInt(append(b, `,"retryAfterSeconds":`...), seconds(v.retryAfter), 10)
	}
	return append(b, '}')
}

// appendASCII appends printable ASCII as the inside of a JSON string.
func appendASCII(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return b
}

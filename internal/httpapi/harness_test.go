package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/stripesim"
	"github.com/keymeter/keymeter/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, wholeContractSeen) }

// wholeContractSeen fails a run of all tests that has left an answer of the contract unseen.
func wholeContractSeen() error {
	for _, filter := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(filter).Value.String() != "" {
			return nil
		}
	}
	return oracle.unseen()
}

const (
	theServiceToken  = "test-service-token-0123456789abcdef"
	theOperatorToken = "test-operator-token-0123456789abcdef"
	webhookSecret    = "whsec_test_current"
	olderSecret      = "whsec_test_older"
	stripeKey        = "sk_test_keymeter"
)

// world is a whole server on a database of its own, seen through HTTP.
type world struct {
	t     *testing.T
	clock *testkit.Clock
	pool  *pgxpool.Pool
	app   *app.App
	http  *httptest.Server
	cfg   app.Config
	log   *logBuffer
	// sim is the Stripe simulator, nil without one; stripe is its server, which a test may replace or close.
	sim           *stripesim.Sim
	stripe        *httptest.Server
	stripeAnswers atomic.Value // the http.HandlerFunc of stripe
}

type option func(w *world)

// withStripe connects the server to a Stripe simulator, whose webhooks reach it.
func withStripe(w *world) {
	w.stripe = httptest.NewServer(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		w.stripeAnswers.Load().(http.HandlerFunc)(res, req)
	}))
	w.t.Cleanup(w.stripe.Close)
	sim, err := stripesim.New(stripesim.Config{
		SecretKey: stripeKey, WebhookSecret: webhookSecret, BaseURL: w.stripe.URL, Prices: simPrices,
		Now: w.clock.Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(w.t, err)
	w.sim = sim
	w.stripeAnswers.Store(http.HandlerFunc(sim.Handler().ServeHTTP))
	w.cfg.StripeSecretKey, w.cfg.StripeAPIURL = stripeKey, w.stripe.URL
	w.cfg.StripeWebhookSecrets = []string{olderSecret, webhookSecret}
}

var simPrices = []stripesim.Price{
	{LookupKey: "keymeter_starter_monthly", ProductName: "Starter", UnitAmount: 2900},
	{LookupKey: "keymeter_pro_monthly", ProductName: "Pro", UnitAmount: 9900},
	{LookupKey: "keymeter_scale_monthly", ProductName: "Scale", UnitAmount: 49900},
}

func withConfig(change func(*app.Config)) option { return func(w *world) { change(&w.cfg) } }

// newWorld starts a server. Its clock stands at a moment with a fraction of a second.
func newWorld(t *testing.T, options ...option) *world {
	t.Helper()
	w := &world{
		t: t, clock: testkit.NewClock(time.Date(2026, 3, 21, 10, 30, 0, 123456000, time.UTC)), log: &logBuffer{},
		cfg: app.Config{
			DatabaseURL: testkit.DatabaseURL(t), DatabaseMaxConns: 8, ShutdownTimeout: 5 * time.Second,
			Peppers:       []string{"1:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))},
			ServiceTokens: []string{theServiceToken}, OperatorTokens: []string{theOperatorToken},
			KeyVendor: "plabs", KeyEnvironment: "live", LogFormat: "json", CacheKeys: 10_000,
		},
	}
	for _, o := range options {
		o(w)
	}
	w.start()
	return w
}

func (w *world) start() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, w.cfg.DatabaseURL)
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	w.pool = pool
	w.app = w.build(w.cfg)
	w.http = httptest.NewServer(w.app.Handler())
	w.t.Cleanup(w.http.Close)
	if w.sim != nil {
		w.runSim()
	}
}

// build builds another server on the same database.
func (w *world) build(cfg app.Config) *app.App {
	w.t.Helper()
	a, err := app.Build(context.Background(), cfg, app.Outside{
		Now: w.clock.Now, Rand: rand.Reader, Logger: slog.New(slog.NewJSONHandler(w.log, nil)),
	})
	require.NoError(w.t, err)
	w.t.Cleanup(a.Close)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Background(ctx) }()
	w.t.Cleanup(func() {
		stop()
		require.NoError(w.t, <-ended)
	})
	return a
}

func (w *world) runSim() {
	w.sim.SetWebhook(w.http.URL+"/webhooks/stripe", webhookSecret)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.sim.Run(ctx) }()
	w.t.Cleanup(func() { stop(); <-done })
}

// response is an answer that the contract allows.
type response struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

type header struct{ name, value string }

func bearer(token string) header { return header{"Authorization", "Bearer " + token} }

func idempotencyKey(key string) header { return header{"Idempotency-Key", key} }

// call makes a request. body is JSON as it stands if it is a string, else it is encoded; nil sends none. The exchange is
// checked against the contract.
func (w *world) call(method, path string, body any, headers ...header) response {
	w.t.Helper()
	return w.callURL(w.http.URL, method, path, body, headers...)
}

func (w *world) callURL(base, method, path string, body any, headers ...header) response {
	w.t.Helper()
	r, err := w.tryURL(base, method, path, body, headers...)
	require.NoError(w.t, err)
	return r
}

// tryURL is for goroutines, where a test can't be failed.
func (w *world) tryURL(base, method, path string, body any, headers ...header) (response, error) {
	var sent []byte
	switch b := body.(type) {
	case nil:
	case string:
		sent = []byte(b)
	default:
		var err error
		if sent, err = json.Marshal(b); err != nil {
			return response{}, err
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, base+path, bytes.NewReader(sent))
	if err != nil {
		return response{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		req.Header.Set(h.name, h.value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return response{}, err
	}
	if err := oracle.check(req, sent, res, got); err != nil {
		return response{}, err
	}
	return response{t: w.t, status: res.StatusCode, header: res.Header, body: got}, nil
}

// want checks the status and decodes the body into each of the targets.
func (r response) want(status int, into ...any) response {
	r.t.Helper()
	require.Equal(r.t, status, r.status, string(r.body))
	for _, target := range into {
		require.NoError(r.t, json.Unmarshal(r.body, target), string(r.body))
	}
	return r
}

type problem struct {
	Type, Title, Detail, Code, RequestID string
	Status                               int
	Errors                               []struct{ Field, Message string }
}

// wantProblem checks that the answer is a problem document with the status and code.
func (r response) wantProblem(status int, code string) problem {
	r.t.Helper()
	var p problem
	r.want(status, &p)
	require.Equal(r.t, code, p.Code)
	require.Equal(r.t, "application/problem+json", r.header.Get("Content-Type"))
	require.Equal(r.t, r.header.Get("X-Request-Id"), p.RequestID)
	return p
}

// wantField checks that the answer is a 400 that names the field.
func (r response) wantField(field string) {
	r.t.Helper()
	p := r.wantProblem(http.StatusBadRequest, "invalid_request")
	for _, e := range p.Errors {
		if e.Field == field {
			return
		}
	}
	require.Failf(r.t, "field not named", "%s is not in %s", field, r.body)
}

type account struct {
	ID, Name, Tier, Status              string
	ExternalID, Email, StripeCustomerID *string
	CreatedAt                           time.Time
}

type createdKey struct {
	ID, Key, Name, Message string
	ExpiresAt              *time.Time
}

type keyList struct {
	Data []struct {
		ID, Name, Prefix      string
		CreatedAt             time.Time
		ExpiresAt, LastUsedAt *time.Time
	}
	NextCursor *string
	HasMore    bool
}

func (l keyList) ids() []string {
	ids := make([]string, len(l.Data))
	for i, k := range l.Data {
		ids[i] = k.ID
	}
	return ids
}

type credits struct{ Used, Limit, Remaining int64 }

type usage struct {
	Credits      credits
	Breakdown    struct{ TTS, STT, LLM, RAG int64 }
	RequestCount int64
}

type subscription struct {
	Tier, TierDisplay string
	Credits           credits
	Plan              struct {
		MonthlyCredits  int64
		OverageRate     float64
		CarryoverMonths int
	}
	StripeCustomerID *string
	TierExpiresAt    *time.Time
}

type results struct {
	Results []struct {
		ID, Status, Code, Detail string
		Duplicate                bool
		Credits                  int64
	}
}

func (w *world) newAccount() account {
	w.t.Helper()
	var a account
	w.call("POST", "/v1/accounts", map[string]any{"name": "Acme"}, bearer(theOperatorToken)).want(http.StatusCreated, &a)
	return a
}

// customer is an account with a key.
type customer struct {
	account
	key createdKey
}

func (c customer) auth() header { return bearer(c.key.Key) }

func (w *world) newCustomer() customer {
	w.t.Helper()
	c := customer{account: w.newAccount()}
	w.call("POST", "/v1/accounts/"+c.ID+"/keys", nil, bearer(theOperatorToken)).want(http.StatusCreated, &c.key)
	return c
}

func (w *world) newKey(c customer, body any) createdKey {
	w.t.Helper()
	var k createdKey
	w.call("POST", "/v1/keys", body, c.auth()).want(http.StatusCreated, &k)
	return k
}

func (w *world) usage(c customer) usage {
	w.t.Helper()
	var u usage
	w.call("GET", "/v1/usage", nil, c.auth()).want(http.StatusOK, &u)
	return u
}

func (w *world) subscription(c customer) subscription {
	w.t.Helper()
	var s subscription
	w.call("GET", "/v1/billing/subscription", nil, c.auth()).want(http.StatusOK, &s)
	return s
}

func (w *world) setTier(c customer, tier string) {
	w.t.Helper()
	w.call("PUT", "/v1/accounts/"+c.ID+"/tier", map[string]any{"tier": tier}, bearer(theOperatorToken)).want(http.StatusOK)
}

func (w *world) record(event any) response {
	w.t.Helper()
	return w.call("POST", "/v1/usage/events", event, bearer(theServiceToken))
}

// count returns the number of rows of a query.
func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	var n int
	require.NoError(w.t, w.pool.QueryRow(context.Background(), "SELECT count(*) FROM "+query, args...).Scan(&n))
	return n
}

// cutDatabase ends every connection to the database and lets nobody in again.
func (w *world) cutDatabase() {
	w.t.Helper()
	ctx := context.Background()
	cfg, err := pgx.ParseConfig(w.cfg.DatabaseURL)
	require.NoError(w.t, err)
	database := cfg.Database
	cfg.Database = "postgres"
	admin, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(w.t, err)
	defer func() { _ = admin.Close(ctx) }()
	_, err = admin.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{database}.Sanitize()+" ALLOW_CONNECTIONS false")
	require.NoError(w.t, err)
	_, err = admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
	require.NoError(w.t, err)
}

// dump returns the whole database as text, bytes in their escape format.
func (w *world) dump() string {
	w.t.Helper()
	ctx := context.Background()
	rows, err := w.pool.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	require.NoError(w.t, err)
	var all strings.Builder
	var tables []string
	for rows.Next() {
		var table string
		require.NoError(w.t, rows.Scan(&table))
		tables = append(tables, table)
	}
	require.NoError(w.t, rows.Err())
	conn, err := w.pool.Acquire(ctx)
	require.NoError(w.t, err)
	defer conn.Release()
	_, err = conn.Exec(ctx, `SET bytea_output = 'escape'`)
	require.NoError(w.t, err)
	for _, table := range tables {
		rows, err := conn.Query(ctx, `SELECT t::text FROM `+table+` t`)
		require.NoError(w.t, err)
		for rows.Next() {
			var row string
			require.NoError(w.t, rows.Scan(&row))
			all.WriteString(table + " " + row + "\n")
		}
		require.NoError(w.t, rows.Err())
	}
	return all.String()
}

// logBuffer collects the log of a server.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

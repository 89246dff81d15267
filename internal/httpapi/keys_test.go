package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/app"
)

func TestCreateKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()

	t.Run("201 as in the seed", func(t *testing.T) {
		var k map[string]any
		w.call("POST", "/v1/keys", `{"name":"Production Key","expiresInDays":90}`, c.auth()).want(http.StatusCreated, &k)
		require.Len(t, k, 5)
		require.Regexp(t, `^key_[0-9A-Za-z]+$`, k["id"])
		require.Regexp(t, `^plabs_sk_live_[0-9A-Za-z]{49}$`, k["key"])
		require.Equal(t, "Production Key", k["name"])
		require.Equal(t, "2026-06-19T10:30:00Z", k["expiresAt"])
		require.Equal(t, "Save this key - it will not be shown again.", k["message"])
	})
	t.Run("201 with defaults", func(t *testing.T) {
		for _, body := range []any{nil, `{}`} {
			k := w.newKey(c, body)
			require.Equal(t, "Default", k.Name)
			require.Nil(t, k.ExpiresAt)
		}
	})
	t.Run("201 at the bounds", func(t *testing.T) {
		w.newKey(c, map[string]any{"name": "x", "expiresInDays": 1})
		w.newKey(c, map[string]any{"name": strings.Repeat("é", 100), "expiresInDays": 365})
		require.Equal(t, "日本語 key 🔑", w.newKey(c, map[string]any{"name": "日本語 key 🔑"}).Name)
	})
	t.Run("400 names the field and changes nothing", func(t *testing.T) {
		before := w.count("api_keys")
		for body, field := range map[string]string{
			`{"name":""}`: "name", `{"name":"` + strings.Repeat("x", 101) + `"}`: "name", `{"name":null}`: "name",
			`{"name":5}`: "name", `{"name":"a\u0000b"}`: "name", `{"name":"a\nb"}`: "name",
			`{"expiresInDays":0}`: "expiresInDays", `{"expiresInDays":366}`: "expiresInDays",
			`{"expiresInDays":-1}`: "expiresInDays", `{"expiresInDays":1.5}`: "expiresInDays",
			`{"expiresInDays":"90"}`: "expiresInDays", `{"expiresInDays":null}`: "expiresInDays",
			`{"expiresInDays":1e99}`: "expiresInDays", `{"Name":"x"}`: "Name", `{"nam":"x"}`: "nam",
			`{"name":"x"`: "body", `{"name":"x"} trailing`: "body", `[]`: "body", `null`: "body", `"x"`: "body", `{}{}`: "body",
		} {
			w.call("POST", "/v1/keys", body, c.auth()).wantField(field)
		}
		require.Equal(t, before, w.count("api_keys"))
	})
	t.Run("413 and 415", func(t *testing.T) {
		w.call("POST", "/v1/keys", `{"name":"`+strings.Repeat("x", 1<<20)+`"}`, c.auth()).
			wantProblem(http.StatusRequestEntityTooLarge, "payload_too_large")
		w.call("POST", "/v1/keys", `{"name":"x"}`, c.auth(), header{"Content-Type", "text/plain"}).
			wantProblem(http.StatusUnsupportedMediaType, "unsupported_media_type")
	})
	t.Run("the raw key is stored and logged nowhere", func(t *testing.T) {
		k := w.newKey(c, nil)
		w.call("GET", "/v1/keys", nil, bearer(k.Key)).want(http.StatusOK)
		secret := strings.TrimPrefix(k.Key, "plabs_sk_live_")
		require.NotContains(t, w.dump(), secret)
		require.NotContains(t, w.log.String(), secret)
		require.Contains(t, w.log.String(), k.ID)
	})
	t.Run("answers with a secret are not cached", func(t *testing.T) {
		require.Equal(t, "no-store", w.call("POST", "/v1/keys", nil, c.auth()).header.Get("Cache-Control"))
	})
}

func TestKeyFormatIsConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withConfig(func(cfg *app.Config) { cfg.KeyVendor, cfg.KeyEnvironment = "acme", "test" }))
	c := w.newCustomer()
	require.Regexp(t, regexp.MustCompile(`^acme_sk_test_[0-9A-Za-z]{49}$`), c.key.Key)
	w.call("GET", "/v1/keys", nil, c.auth()).want(http.StatusOK)
}

func TestListKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	other := w.newCustomer()
	ids := []string{c.key.ID}
	for i := range 24 {
		ids = append([]string{w.newKey(c, map[string]any{"name": fmt.Sprint(i)}).ID}, ids...)
	}
	list := func(query string) (l keyList) {
		w.call("GET", "/v1/keys"+query, nil, c.auth()).want(http.StatusOK, &l)
		return l
	}

	t.Run("200 as in the seed", func(t *testing.T) {
		var l map[string]any
		w.call("GET", "/v1/keys?limit=100", nil, c.auth()).want(http.StatusOK, &l)
		require.Nil(t, l["nextCursor"])
		require.Contains(t, l, "nextCursor")
		require.Equal(t, false, l["hasMore"])
		newest := l["data"].([]any)[0].(map[string]any)
		require.Len(t, newest, 6)
		require.Equal(t, "2026-03-21T10:30:00Z", newest["createdAt"])
		require.Nil(t, newest["expiresAt"])
		require.Nil(t, newest["lastUsedAt"])
		require.Regexp(t, `^plabs_sk_live_[0-9A-Za-z]{4}\.\.\.$`, newest["prefix"])
	})
	t.Run("the prefix is that of the key", func(t *testing.T) {
		k := w.newKey(other, nil)
		var l keyList
		w.call("GET", "/v1/keys?limit=1", nil, other.auth()).want(http.StatusOK, &l)
		require.Equal(t, k.Key[:len("plabs_sk_live_")+4]+"...", l.Data[0].Prefix)
	})
	t.Run("newest first, 20 by default, in pages", func(t *testing.T) {
		first := list("")
		require.Equal(t, ids[:20], first.ids())
		require.True(t, first.HasMore)
		require.Equal(t, ids[19], *first.NextCursor)
		second := list("?cursor=" + *first.NextCursor)
		require.Equal(t, ids[20:], second.ids())
		require.False(t, second.HasMore)
		require.Nil(t, second.NextCursor)
	})
	t.Run("a page that ends with the list has no next", func(t *testing.T) {
		require.False(t, list("?limit=25").HasMore)
		require.True(t, list("?limit=24").HasMore)
		require.Empty(t, list("?cursor="+ids[24]).Data)
	})
	t.Run("400", func(t *testing.T) {
		for query, field := range map[string]string{
			"?limit=0": "limit", "?limit=101": "limit", "?limit=x": "limit", "?limit=": "limit", "?limit=1.5": "limit",
			"?limit=1&limit=2": "limit", "?limit=99999999999999999999": "limit", "?cursor=nope": "cursor",
			"?cursor=key_xyz": "cursor", "?cursor=" + other.key.ID: "cursor", "?page=2": "page",
		} {
			w.call("GET", "/v1/keys"+query, nil, c.auth()).wantField(field)
		}
		w.call("GET", "/v1/keys?limit=%zz", nil, c.auth()).wantProblem(http.StatusBadRequest, "invalid_request")
	})
	t.Run("pages stay stable while keys come and go", func(t *testing.T) {
		first := list("?limit=10")
		w.newKey(c, nil)
		w.call("DELETE", "/v1/keys/"+*first.NextCursor, nil, c.auth()).want(http.StatusNoContent)
		w.call("DELETE", "/v1/keys/"+ids[12], nil, c.auth()).want(http.StatusNoContent)
		second := list("?limit=10&cursor=" + *first.NextCursor)
		require.Equal(t, append(append([]string{}, ids[10:12]...), ids[13:21]...), second.ids())
	})
	t.Run("an expired key is listed", func(t *testing.T) {
		k := w.newKey(other, map[string]any{"expiresInDays": 1})
		w.clock.Advance(25 * time.Hour)
		var l keyList
		w.call("GET", "/v1/keys?limit=1", nil, other.auth()).want(http.StatusOK, &l)
		require.Equal(t, k.ID, l.Data[0].ID)
		require.True(t, l.Data[0].ExpiresAt.Before(w.clock.Now()))
	})
}

func TestListKeysReturnsEachSurvivorOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	var survivors, doomed []string
	for i := range 60 {
		if id := w.newKey(c, nil).ID; i%3 == 0 {
			doomed = append(doomed, id)
		} else {
			survivors = append(survivors, id)
		}
	}
	var churn sync.WaitGroup
	errs := make(chan error, 2)
	churn.Go(func() {
		for _, id := range doomed {
			if _, err := w.tryURL(w.http.URL, "DELETE", "/v1/keys/"+id, nil, c.auth()); err != nil {
				errs <- err
				return
			}
		}
	})
	churn.Go(func() {
		for range 30 {
			if _, err := w.tryURL(w.http.URL, "POST", "/v1/keys", nil, c.auth()); err != nil {
				errs <- err
				return
			}
		}
	})
	seen := map[string]int{}
	for cursor := ""; ; {
		var l keyList
		w.call("GET", "/v1/keys?limit=3"+cursor, nil, c.auth()).want(http.StatusOK, &l)
		for _, id := range l.ids() {
			seen[id]++
		}
		if !l.HasMore {
			break
		}
		cursor = "&cursor=" + *l.NextCursor
	}
	churn.Wait()
	close(errs)
	require.NoError(t, <-errs)
	for _, id := range survivors {
		require.Equal(t, 1, seen[id], id)
	}
	for id, times := range seen {
		require.Equal(t, 1, times, id)
	}
}

func TestRevokeKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other := w.newCustomer(), w.newCustomer()

	t.Run("204, and it is refused from then on", func(t *testing.T) {
		k := w.newKey(c, nil)
		require.Empty(t, w.call("DELETE", "/v1/keys/"+k.ID, nil, c.auth()).want(http.StatusNoContent).body)
		w.call("GET", "/v1/keys", nil, bearer(k.Key)).wantProblem(http.StatusUnauthorized, "invalid_credential")
		var l keyList
		w.call("GET", "/v1/keys?limit=100", nil, c.auth()).want(http.StatusOK, &l)
		require.NotContains(t, l.ids(), k.ID)
	})
	t.Run("a key may revoke itself", func(t *testing.T) {
		k := w.newKey(c, nil)
		w.call("DELETE", "/v1/keys/"+k.ID, nil, bearer(k.Key)).want(http.StatusNoContent)
		w.call("DELETE", "/v1/keys/"+k.ID, nil, bearer(k.Key)).wantProblem(http.StatusUnauthorized, "invalid_credential")
	})
	t.Run("404 is the same for revoked, foreign and absent keys", func(t *testing.T) {
		k := w.newKey(c, nil)
		w.call("DELETE", "/v1/keys/"+k.ID, nil, c.auth()).want(http.StatusNoContent)
		bodies := map[string]bool{}
		for _, id := range []string{k.ID, other.key.ID, "key_nobody", "nonsense"} {
			r := w.call("DELETE", "/v1/keys/"+id, nil, c.auth(), header{"X-Request-Id", "same"})
			r.wantProblem(http.StatusNotFound, "key_not_found")
			bodies[string(r.body)] = true
		}
		require.Len(t, bodies, 1)
		w.call("GET", "/v1/keys", nil, other.auth()).want(http.StatusOK)
	})
	t.Run("of many revokes at once one is the revoke", func(t *testing.T) {
		k := w.newKey(c, nil)
		statuses := w.race(16, func() (response, error) {
			return w.tryURL(w.http.URL, "DELETE", "/v1/keys/"+k.ID, nil, c.auth())
		})
		require.Equal(t, map[int]int{204: 1, 404: 15}, statuses)
	})
}

// race makes n calls at once and returns how often each status came.
func (w *world) race(n int, call func() (response, error)) map[int]int {
	w.t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	statuses := map[int]int{}
	var failed error
	for range n {
		all.Go(func() {
			r, err := call()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			statuses[r.status]++
		})
	}
	all.Wait()
	require.NoError(w.t, failed)
	return statuses
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other := w.newCustomer(), w.newCustomer()

	t.Run("200 as in the seed", func(t *testing.T) {
		old := w.newKey(c, map[string]any{"name": "Production Key", "expiresInDays": 90})
		w.clock.Advance(time.Hour)
		var k map[string]any
		w.call("POST", "/v1/keys/"+old.ID+"/rotate", nil, c.auth()).want(http.StatusOK, &k)
		require.Len(t, k, 4)
		require.NotEqual(t, old.ID, k["id"])
		require.Equal(t, "Production Key", k["name"])
		require.Equal(t, "Save this key - it will not be shown again.", k["message"])
		w.call("GET", "/v1/keys", nil, bearer(old.Key)).wantProblem(http.StatusUnauthorized, "invalid_credential")
		var l keyList
		w.call("GET", "/v1/keys?limit=1", nil, bearer(k["key"].(string))).want(http.StatusOK, &l)
		require.Equal(t, k["id"], l.Data[0].ID)
		require.Equal(t, old.ExpiresAt, l.Data[0].ExpiresAt, "the remaining lifetime is kept")
	})
	t.Run("a key may rotate itself", func(t *testing.T) {
		old := w.newKey(c, nil)
		var k createdKey
		w.call("POST", "/v1/keys/"+old.ID+"/rotate", nil, bearer(old.Key)).want(http.StatusOK, &k)
		w.call("GET", "/v1/keys", nil, bearer(k.Key)).want(http.StatusOK)
	})
	t.Run("404 for revoked, foreign and absent keys", func(t *testing.T) {
		k := w.newKey(c, nil)
		w.call("DELETE", "/v1/keys/"+k.ID, nil, c.auth()).want(http.StatusNoContent)
		for _, id := range []string{k.ID, other.key.ID, "key_nobody"} {
			w.call("POST", "/v1/keys/"+id+"/rotate", nil, c.auth()).wantProblem(http.StatusNotFound, "key_not_found")
		}
	})
	t.Run("409 for rotated and expired keys", func(t *testing.T) {
		k := w.newKey(c, nil)
		w.call("POST", "/v1/keys/"+k.ID+"/rotate", nil, c.auth()).want(http.StatusOK)
		w.call("POST", "/v1/keys/"+k.ID+"/rotate", nil, c.auth()).wantProblem(http.StatusConflict, "key_already_rotated")
		w.call("DELETE", "/v1/keys/"+k.ID, nil, c.auth()).wantProblem(http.StatusNotFound, "key_not_found")
		expired := w.newKey(c, map[string]any{"expiresInDays": 1})
		w.clock.Advance(25 * time.Hour)
		w.call("POST", "/v1/keys/"+expired.ID+"/rotate", nil, c.auth()).wantProblem(http.StatusConflict, "key_expired")
	})
	t.Run("of many rotations at once one wins", func(t *testing.T) {
		k := w.newKey(c, nil)
		before := w.count("api_keys WHERE revoked_at IS NULL AND account_id = $1", c.ID)
		statuses := w.race(16, func() (response, error) {
			return w.tryURL(w.http.URL, "POST", "/v1/keys/"+k.ID+"/rotate", nil, c.auth())
		})
		require.Equal(t, map[int]int{200: 1, 409: 15}, statuses)
		require.Equal(t, before, w.count("api_keys WHERE revoked_at IS NULL AND account_id = $1", c.ID))
	})
}

// A reader never sees both keys of a rotation valid, or neither.
func TestRotateIsAtomic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	k := w.newKey(c, nil)
	stop := make(chan struct{})
	var reader sync.WaitGroup
	var counts []int
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var n int
			err := w.pool.QueryRow(context.Background(),
				`SELECT count(*) FROM api_keys WHERE account_id = $1 AND revoked_at IS NULL`, c.ID).Scan(&n)
			if err != nil {
				n = -1
			}
			counts = append(counts, n)
		}
	})
	for range 50 {
		w.call("POST", "/v1/keys/"+k.ID+"/rotate", nil, c.auth()).want(http.StatusOK, &k)
	}
	close(stop)
	reader.Wait()
	require.NotEmpty(t, counts)
	for _, n := range counts {
		require.Equal(t, 2, n, "the customer's key and one of the two")
	}
}

func TestLastUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	k := w.newKey(c, nil)
	lastUsed := func() *time.Time {
		var l keyList
		w.call("GET", "/v1/keys?limit=1", nil, c.auth()).want(http.StatusOK, &l)
		return l.Data[0].LastUsedAt
	}
	writes := func() (n int) {
		require.NoError(t, w.pool.QueryRow(context.Background(),
			`SELECT xmin::text::bigint FROM api_keys WHERE id = $1`, k.ID).Scan(&n))
		return n
	}
	before := writes()
	for range 10 {
		w.call("GET", "/v1/usage", nil, bearer(k.Key)).want(http.StatusOK)
	}
	require.Equal(t, before, writes(), "a use is not a write")
	require.Nil(t, lastUsed())
	require.NoError(t, w.app.FlushLastUsed(context.Background()))
	first := lastUsed()
	require.Equal(t, "2026-03-21T10:30:00Z", first.Format(time.RFC3339))

	t.Run("by a service's events", func(t *testing.T) {
		w.clock.Advance(time.Hour)
		w.record(map[string]any{"id": "e1", "keyId": k.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
		require.NoError(t, w.app.FlushLastUsed(context.Background()))
		require.Equal(t, first.Add(time.Hour), *lastUsed())
	})
	t.Run("never goes back", func(t *testing.T) {
		w.record(map[string]any{
			"id": "e2", "keyId": k.ID, "category": "rag", "credits": 1, "occurredAt": w.clock.Now().Add(-time.Minute),
		}).want(http.StatusOK)
		require.NoError(t, w.app.FlushLastUsed(context.Background()))
		require.Equal(t, first.Add(time.Hour), *lastUsed())
	})
}

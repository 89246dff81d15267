package keys

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// lastUsed collects when keys were used, so that many uses become one write.
type lastUsed struct {
	mu sync.Mutex
	at map[string]time.Time // by key id
}

func (l *lastUsed) note(keyID string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[string]time.Time{}
	}
	if now.After(l.at[keyID]) {
		l.at[keyID] = now
	}
}

func (l *lastUsed) take() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.at
	l.at = nil
	return taken
}

// NoteUsed notes that a service saw the key in use.
func (k *Keys) NoteUsed(keyID string, at time.Time) { k.lastUsed.note(keyID, at) }

// FlushLastUsed writes when keys were last used. If it fails the notes are kept for the next time.
func (k *Keys) FlushLastUsed(ctx context.Context) error {
	taken := k.lastUsed.take()
	if len(taken) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(taken))
	times := make([]time.Time, len(ids))
	for i, id := range ids {
		times[i] = taken[id]
	}
	err := touch(ctx, k.Pool, ids, times)
	if err != nil {
		for id, at := range taken {
			k.lastUsed.note(id, at)
		}
	}
	return err
}

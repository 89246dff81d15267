package keys

import (
	"context"
	"errors"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

// How many queries run at once for look-ups of keys and for their creation. A creation waits for the disk.
const (
	maxLookups   = 2
	maxCreations = 1
)

// Create creates a key for an account. Keys without controls that are created at the same time are committed together.
func (k *Keys) Create(ctx context.Context, accountID string, p CreateParams) (Created, error) {
	row, created, err := k.mint(accountID, p)
	if err != nil {
		return Created{}, err
	}
	if !p.unlimited() {
		err = insert(ctx, k.Pool, row)
		if postgres.LacksParent(err) {
			err = errNoAccount
		}
	} else {
		err = k.createTogether(ctx, row)
	}
	if err != nil {
		return Created{}, err
	}
	return created, nil
}

func (k *Keys) createTogether(ctx context.Context, row newRow) error {
	refusal, err := k.creations.do(ctx, row)
	return errors.Join(err, refusal)
}

// CreateTx creates a key for an account that exists.
func (k *Keys) CreateTx(ctx context.Context, tx postgres.Tx, accountID string, p CreateParams) (Created, error) {
	row, created, err := k.mint(accountID, p)
	if err != nil {
		return Created{}, err
	}
	return created, insert(ctx, tx, row)
}

func (k *Keys) mint(accountID string, p CreateParams) (newRow, Created, error) {
	now := k.Now()
	key := Key{ID: k.IDs.New("key"), Name: p.Name, CreatedAt: now, Controls: p.Controls}
	if p.ExpiresInDays > 0 {
		at := now.Add(time.Duration(p.ExpiresInDays) * day).Truncate(time.Second)
		key.ExpiresAt = &at
	}
	return k.secretFor(accountID, key, key.ID)
}

// secretFor makes the secret of a key.
func (k *Keys) secretFor(accountID string, key Key, family string) (newRow, Created, error) {
	secret, err := k.Format.mint(k.Rand)
	if err != nil {
		return newRow{}, Created{}, err
	}
	return newRow{
		Key: key, accountID: accountID, family: family, secret: secret,
		hash: k.Peppers.hash(k.Peppers.current, secret), pepperVersion: k.Peppers.current,
	}, Created{ID: key.ID, Name: key.Name, Secret: secret, ExpiresAt: key.ExpiresAt}, nil
}

// insertAll inserts keys of any accounts, and tells what became of each. If what one of them holds fails all, each is
// inserted alone.
func (k *Keys) insertAll(ctx context.Context, rows []newRow) ([]error, error) {
	refusals, err := insertPlain(ctx, k.Pool, rows)
	if err == nil || len(rows) == 1 || !postgres.Rejected(err) {
		return refusals, err
	}
	refusals = make([]error, len(rows))
	for i, row := range rows {
		alone, err := insertPlain(ctx, k.Pool, []newRow{row})
		if err != nil {
			alone = []error{err}
		}
		refusals[i] = alone[0]
	}
	return refusals, nil
}

func (k *Keys) lookUp(ctx context.Context, wanted [][][]byte) ([]*Known, error) {
	var hashes [][]byte
	for _, of := range wanted {
		hashes = append(hashes, of...)
	}
	found, err := find(ctx, k.Hot, hashes)
	if err != nil {
		return nil, err
	}
	known := make([]*Known, len(wanted))
	for i, of := range wanted {
		for _, hash := range of {
			if one, ok := found[digest(hash)]; ok {
				known[i] = one
			}
		}
	}
	return known, nil
}

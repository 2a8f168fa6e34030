/*
 * The ring and its two doorbells: src/runtime/ring.ts, doorbell.ts and the wait for room in
 * threads/threaded-actor.ts, one Promela step for each access to shared memory.
 *
 * Shown by exhaustive search: whatever the interleaving, and whichever side is killed at whatever step and
 * started again by its supervisor, nobody sleeps for ever while there is something to do (spin reports that as
 * an invalid end state), and every message is read at most once.
 *
 *   spin -search -safety ring-doorbell.pml              no errors
 *   spin -DLOOK_FIRST -search -safety ring-doorbell.pml   the receiver looks before it raises its flag
 *   spin -DFLAG_FIRST -search -safety ring-doorbell.pml   the sender looks at the flag before it publishes
 *   spin -DASK_FIRST -search -safety ring-doorbell.pml    the sender asks for room before it raises its flag
 *   spin -DNO_FORCE -search -safety ring-doorbell.pml     the supervisor rings no doorbells after a death
 */
#define MESSAGES 5
#define CAPACITY 2

byte head = 0;
byte tail = 0;
bool waiting = false;

/* Doorbells: 0 of the receiver, 1 of the sender. A notify wakes who is blocked. */
byte sequence[2];
bool sleeping[2];
bool blocked[2];

byte crashes = 1;
bool killSender = false;
bool killReceiver = false;
bool senderDone = false;

inline force(bell) {
  sequence[bell]++;
  blocked[bell] = false
}

inline ring(bell, was) {
  if
  :: sleeping[bell] ->
    atomic { was = sleeping[bell]; sleeping[bell] = false };
    if
    :: was -> force(bell)
    :: else -> skip
    fi
  :: else -> skip
  fi
}

inline waitOn(bell, snapshot) {
  atomic {
    if
    :: sequence[bell] == snapshot -> blocked[bell] = true
    :: else -> skip
    fi
  };
  !blocked[bell]
}

proctype Sender() {
  byte sent;
  byte snapshot;
  bool was;
again:
  {
    sent = tail;
    do
    :: sent == MESSAGES -> break
    :: else ->
      do
      :: sent - head < CAPACITY -> break
      :: else ->
#ifdef ASK_FIRST
        waiting = true;
        snapshot = sequence[1];
        sleeping[1] = true;
#else
        snapshot = sequence[1];
        sleeping[1] = true;
        waiting = true;
#endif
        if
        :: sent - head < CAPACITY -> skip
        :: else -> waitOn(1, snapshot)
        fi;
        sleeping[1] = false
      od;
      sent++;
#ifdef FLAG_FIRST
      ring(0, was);
      tail = sent
#else
      tail = sent;
      ring(0, was)
#endif
    od;
    senderDone = true
  } unless { killSender };
  if
  :: !senderDone || killSender ->
    /* The supervisor's part: the dead thread's own wait is over, neighbours are woken, a new life begins. */
    killSender = false;
    senderDone = false;
    blocked[1] = false;
#ifndef NO_FORCE
    force(0);
#endif
    goto again
  :: else -> skip
  fi
}

proctype Receiver() {
  byte snapshot;
  bool was;
  byte position;
  byte used;
again:
  {
    position = head;
    do
    :: position != tail ->
      assert(tail - position <= CAPACITY);
      position++;
      head = position;
      if
      :: waiting -> used = tail - head
      :: else -> used = CAPACITY
      fi;
      if
      :: used <= CAPACITY / 2 ->
        atomic { was = waiting; waiting = false };
        if
        :: was -> ring(1, was)
        :: else -> skip
        fi
      :: else -> skip
      fi
    :: else ->
      if
      :: position == MESSAGES -> break
      :: else -> skip
      fi;
      snapshot = sequence[0];
#ifdef LOOK_FIRST
      if
      :: position == tail -> sleeping[0] = true; waitOn(0, snapshot)
      :: else -> skip
      fi;
#else
      sleeping[0] = true;
      if
      :: position == tail -> waitOn(0, snapshot)
      :: else -> skip
      fi;
#endif
      sleeping[0] = false
    od
  } unless { killReceiver };
  if
  :: killReceiver ->
    killReceiver = false;
    blocked[0] = false;
#ifndef NO_FORCE
    force(1);
#endif
    goto again
  :: else -> skip
  fi
}

/* Kills one side, once, at any moment; or does not. */
proctype Killer() {
end:
  if
  :: atomic { crashes > 0 -> crashes--; killSender = true }
  :: atomic { crashes > 0 -> crashes--; killReceiver = true }
  :: skip
  fi
}

init {
  atomic { run Sender(); run Receiver(); run Killer() }
}

-- PostgreSQL keeps the ledger in ranges of dispatch numbers from here on. One file
-- has no use for that: nothing changes here.
SELECT 1;

//! Reports of a loopback mail server (RFC 3464), put into a Maildir.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::super::receipts::{Kind, Word};
use super::Server;
use super::session::Envelope;

/// Writes the reports that `words` call for, each in its time.
pub(super) fn schedule(server: &Arc<Server>, envelope: &Envelope, content: &str, words: Vec<Word>) {
    let Some(maildir) = server.bounces.clone() else { return };
    let headers = content.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    for word in words {
        let wanted = match word.kind {
            Kind::Undelivered => true,
            Kind::Delivered => envelope.notify_success,
            Kind::Taken | Kind::Late => false,
        };
        if !wanted {
            continue;
        }
        let report = report(envelope, &headers, word.kind);
        let (server, maildir) = (Arc::clone(server), maildir.clone());
        tokio::spawn(async move {
            tokio::time::sleep(word.after).await;
            match deliver(&maildir, &report).await {
                Ok(()) => {
                    server.bounced.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => tracing::error!(%error, "a bounce of the loopback mail server cannot be written"),
            }
        });
    }
}

/// As a Maildir asks: written beside, then moved in whole.
async fn deliver(maildir: &Path, report: &str) -> io::Result<()> {
    let name = format!("{}.loopback", Uuid::now_v7());
    let tmp = maildir.join("tmp").join(&name);
    tokio::fs::write(&tmp, report).await?;
    tokio::fs::rename(tmp, maildir.join("new").join(name)).await
}

fn report(envelope: &Envelope, headers: &str, kind: Kind) -> String {
    let (action, status, said) = match kind {
        Kind::Delivered => ("delivered", "2.0.0", "250 2.0.0 delivered"),
        _ => ("failed", "5.1.1", "550 5.1.1 user unknown"),
    };
    let envid = envelope.envid.as_ref().map(|id| format!("Original-Envelope-Id: {id}\r\n")).unwrap_or_default();
    let to = envelope.to.first().map(String::as_str).unwrap_or_default();
    let from = &envelope.from;
    format!(
        "Return-Path: <>\r\nDelivered-To: {from}\r\nFrom: MAILER-DAEMON@loopback.gong.example\r\nTo: {from}\r\n\
         Subject: Delivery report\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"gong-loopback\"\r\n\r\n\
         --gong-loopback\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThis is a rehearsal.\r\n\r\n\
         --gong-loopback\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; loopback.gong.example\r\n{envid}\r\n\
         Final-Recipient: rfc822; {to}\r\nAction: {action}\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {said}\r\n\r\n\
         --gong-loopback\r\nContent-Type: text/rfc822-headers\r\n\r\n{headers}\r\n\r\n--gong-loopback--\r\n"
    )
}

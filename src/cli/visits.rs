//! `gong visits`: the door-knock list (入户通知清单), and what came of it.

mod list;
mod print;
mod record;

use clap::{Args, Subcommand};

pub(super) use list::failure;

use super::{App, Context, Ended};
use crate::say;
use crate::store::dispatches::Dispatch;
use crate::store::visits::DoorList;

/// The door-knock list of a dispatch: whom to visit, and what the visits came to.
#[derive(Debug, Args)]
#[command(after_help = "\
gong visits 3 list
gong --as 王芳 visits 3 list --town 河口镇 --format xlsx --out 清单 --reveal
gong visits 3 record --row 12 --result told --by 李明
gong visits 3 import 清单/河口镇-入户通知清单.xlsx")]
pub struct VisitsArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(list::ListArgs),
    Record(record::RecordArgs),
    Import(record::ImportArgs),
}

pub(super) async fn run(context: &Context, args: VisitsArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let doors = doors(&app, &dispatch).await?;
    match args.what {
        What::List(args) => list::run(context, &app, (&dispatch, doors), args).await,
        What::Record(args) => record::one(context, &app, (&dispatch, doors), args).await,
        What::Import(args) => record::many(context, &app, (&dispatch, doors), args).await,
    }
}

async fn doors(app: &App, dispatch: &Dispatch) -> anyhow::Result<DoorList> {
    let no = dispatch.no;
    app.store.door_list(dispatch).await?.ok_or_else(|| {
        super::words::refused(say!(
            "发布任务 {no} 还没有入户清单：步骤里没有 visit，或者还没有轮到它。查看：gong status {no}",
            "dispatch {no} has no door-knock list yet: its plan does not visit, or not yet. See: gong status {no}"
        ))
    })
}
